//! Error codes of HTTP/3 and QPACK (RFC 9114 §8.1, RFC 9204 §6).

use quinn::VarInt;

/// Nothing is wrong.
pub const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// The peer does what only protocol abuse explains the amount of.
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
pub const STREAM_CREATION: VarInt = VarInt::from_u32(0x103);
pub const CLOSED_CRITICAL_STREAM: VarInt = VarInt::from_u32(0x104);
pub const FRAME_UNEXPECTED: VarInt = VarInt::from_u32(0x105);
pub const FRAME_ERROR: VarInt = VarInt::from_u32(0x106);
pub const ID_ERROR: VarInt = VarInt::from_u32(0x108);
pub const SETTINGS_ERROR: VarInt = VarInt::from_u32(0x109);
pub const MISSING_SETTINGS: VarInt = VarInt::from_u32(0x10a);
/// The request was not looked at: it can be sent again elsewhere.
pub const REQUEST_REJECTED: VarInt = VarInt::from_u32(0x10b);
pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
pub const REQUEST_INCOMPLETE: VarInt = VarInt::from_u32(0x10d);
/// A request that is no proper one.
pub const MESSAGE_ERROR: VarInt = VarInt::from_u32(0x10e);
pub const INTERNAL: VarInt = VarInt::from_u32(0x102);
pub const QPACK_DECOMPRESSION: VarInt = VarInt::from_u32(0x200);
pub const QPACK_ENCODER_STREAM: VarInt = VarInt::from_u32(0x201);
pub const QPACK_DECODER_STREAM: VarInt = VarInt::from_u32(0x202);
