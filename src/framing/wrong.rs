//! What a request can be refused for before it is one.

use http::StatusCode;

/// Why the bytes of a client are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A line ends in LF without CR (RFC 9112 §2.2 lets a recipient take it for an end; others do not).
    BareLf,
    /// The request line is not three words with single blanks between them, the last one a version (§3).
    RequestLine,
    /// The target has a fragment, which is no part of a request (§3.2).
    Fragment,
    /// It is for another version than HTTP/1.1 and HTTP/1.0.
    Version,
    /// Content-Length that is not a number of bytes.
    Length,
    /// More than one Content-Length, be they equal (RFC 9112 §6.3).
    Lengths,
    /// Content-Length and Transfer-Encoding (§6.1).
    LengthAndCoding,
    /// More than one Transfer-Encoding.
    Codings,
    /// A transfer coding other than chunked (§6.1: 501).
    Coding,
    /// Chunked is not the last coding, or there twice (§6.1, §6.3).
    NotChunked,
    /// Transfer-Encoding in HTTP/1.0 (§6.1).
    OldCoding,
    /// `Content_Length`, `Transfer_Encoding`: some servers take them for the real ones.
    Lookalike,
    /// A head above `limit.header_bytes`.
    HeadTooLarge,
    /// The request line alone is above it.
    UriTooLong,
    /// A chunk that is not framed as RFC 9112 §7.1 has it.
    Chunk,
}

impl Wrong {
    pub const ALL: [Self; 15] = [
        Self::BareLf,
        Self::RequestLine,
        Self::Fragment,
        Self::Version,
        Self::Length,
        Self::Lengths,
        Self::LengthAndCoding,
        Self::Codings,
        Self::Coding,
        Self::NotChunked,
        Self::OldCoding,
        Self::Lookalike,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::Chunk,
    ];

    pub fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// As a part of a sentence: `a line ends without CR`.
    pub fn text(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends without CR",
            Self::RequestLine => "the request line is not METHOD TARGET HTTP/1.1",
            Self::Fragment => "the target has a fragment",
            Self::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
            Self::Length => "the Content-Length is not a number",
            Self::Lengths => "there is more than one Content-Length",
            Self::LengthAndCoding => "there are Content-Length and Transfer-Encoding",
            Self::Codings => "there is more than one Transfer-Encoding",
            Self::Coding => "the transfer coding is not known here; chunked is",
            Self::NotChunked => "the Transfer-Encoding is not chunked alone",
            Self::OldCoding => "there is a Transfer-Encoding in HTTP/1.0",
            Self::Lookalike => "a framing header is spelt with an underscore",
            Self::HeadTooLarge => "the head is too large",
            Self::UriTooLong => "the request line is too long",
            Self::Chunk => "a chunk of the body is not framed properly",
        }
    }

    /// As a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::RequestLine => "request_line",
            Self::Fragment => "fragment",
            Self::Version => "version",
            Self::Length => "content_length",
            Self::Lengths => "repeated_content_length",
            Self::LengthAndCoding => "content_length_and_transfer_encoding",
            Self::Codings => "repeated_transfer_encoding",
            Self::Coding => "unknown_transfer_coding",
            Self::NotChunked => "not_chunked",
            Self::OldCoding => "transfer_encoding_in_http10",
            Self::Lookalike => "underscore",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::Chunk => "chunk",
        }
    }
}
