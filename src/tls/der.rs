//! The two parts of a certificate that we tell about, out of its DER: its dates and its subject.
//!
//! RFC 5280 §4.1: Certificate → tbsCertificate → version, serial, signature, issuer, validity, subject.
//! The structure was already accepted by webpki when this is called; still every step is checked.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const VERSION: u8 = 0xa0;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

/// The names that RFC 4514 §3 has short ones for, and two that are in use besides.
const NAMES: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x55, 4, 5], "serialNumber"),
];

/// The content of its validity, and what comes after it.
pub(super) fn validity(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (tbs, _) = expect(certificate, SEQUENCE)?;
    let after_version = expect(tbs, VERSION).map_or(tbs, |(_, rest)| rest);
    let (_, rest) = expect(after_version, INTEGER)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    expect(rest, SEQUENCE)
}

/// Its subject as RFC 4514 writes names: the last part first, all in ASCII. `None` if the certificate is not
/// made as it should be.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, rest) = validity(certificate)?;
    let (mut name, _) = expect(rest, SEQUENCE)?;
    let mut parts = Vec::new();
    while !name.is_empty() {
        let (mut set, rest) = expect(name, SET)?;
        name = rest;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = expect(attribute, OBJECT)?;
            attributes.push(format!("{}={}", short(kind), written(value)?));
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

/// One element: its tag, its content, what comes after it. Lengths up to 64 KiB, definite form.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The short name of a kind, or its number (`2.5.4.97`).
fn short(kind: &[u8]) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == kind) {
        return (*name).to_owned();
    }
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for &byte in kind {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match numbers.is_empty() {
                // The first two are one (X.690 §8.19.4).
                true => numbers.extend([number.min(80) / 40, number - number.min(80) / 40 * 40]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// A value as RFC 4514 §2.4 writes it.
fn written(value: &[u8]) -> Option<String> {
    let (tag, content, _) = element(value)?;
    let text = match tag {
        UTF8 | PRINTABLE | IA5 => std::str::from_utf8(content).ok(),
        _ => None,
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let Some(text) = text else { return Some(format!("#{}", hex(value))) };
    let mut out = String::new();
    for (index, char) in text.char_indices() {
        let edge = index == 0 || index + char.len_utf8() == text.len();
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', char]),
            '#' if index == 0 => out.push_str("\\#"),
            ' ' if edge => out.push_str("\\ "),
            ' '..='~' => out.push(char),
            _ => {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\{byte:02X}"));
                }
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_without_a_name_are_numbers() {
        assert_eq!(short(&[0x55, 4, 97]), "2.5.4.97");
        assert_eq!(short(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]), "1.2.840.113549.1.9.1");
        assert_eq!(short(&[0x55, 4, 3]), "CN");
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        for der in [&b""[..], b"\x30", b"\x30\x84\x00\x00\x00\x00", b"\x30\x02\x30\x00"] {
            assert_eq!(subject(der), None);
        }
    }

    #[test]
    fn values_are_escaped() {
        let value = |text: &str| written(&[&[UTF8, text.len() as u8], text.as_bytes()].concat());
        assert_eq!(value("a b").as_deref(), Some("a b"));
        assert_eq!(value(" a ").as_deref(), Some("\\ a\\ "));
        assert_eq!(value("#1\n").as_deref(), Some("\\#1\\0A"));
        assert_eq!(written(&[0x03, 2, 0, 5]).as_deref(), Some("#03020005"));
    }
}
