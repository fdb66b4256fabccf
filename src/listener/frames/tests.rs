//! Frames by hand: what is counted, and what ends a connection.

use super::heads::HEAD;
use super::*;

fn frame(length: usize, kind: u8, flags: u8, stream: u8) -> Vec<u8> {
    let mut bytes = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, stream];
    bytes.resize(HEAD + length.min(MAX_FRAME), 0);
    bytes
}

fn begun() -> Frames {
    let mut frames = Frames::new(Limits::new(10, 32 * 1024, 100));
    let hello = [PREFACE, &frame(0, SETTINGS, 0, 0)].concat();
    assert_eq!(frames.received(&hello, || 0), Ok(()));
    frames
}

#[test]
fn frames_are_found_however_they_are_cut() {
    let ping = frame(8, PING, 0, 0);
    let data = frame(300, DATA, 0, 1);
    let all = [&frame(0, SETTINGS, ACK, 0)[..], &data, &ping, &data, &ping].concat();
    for step in [1, 2, 3, 7, 9, 10, 50, 1000] {
        let mut frames = begun();
        for piece in all.chunks(step) {
            assert_eq!(frames.received(piece, || 0), Ok(()), "by {step}");
        }
        assert_eq!((frames.counts.pings, frames.counts.settings), (2, 2), "by {step}");
    }
}

#[test]
fn each_kind_has_its_rate() {
    for (frame, most, flood) in [
        (frame(8, PING, 0, 0), 1000, Flood::Ping),
        (frame(8, PING, ACK, 0), 1000, Flood::Ping),
        (frame(0, SETTINGS, 0, 0), 99, Flood::Settings),
        (frame(5, PRIORITY, 0, 1), 1000, Flood::Priority),
        (frame(0, 99, 0, 1), 1000, Flood::UnknownFrame),
        (frame(0, DATA, 0, 1), 1000, Flood::EmptyData),
        (frame(4, WINDOW_UPDATE, 0, 1), 1000, Flood::WindowUpdate),
        (frame(4, RST_STREAM, 0, 1), 10, Flood::RapidReset),
    ] {
        let mut frames = begun();
        for _ in 0..most {
            assert_eq!(frames.received(&frame, || 0), Ok(()), "{flood:?}");
        }
        let over = frames.received(&frame, || 0);
        assert_eq!(over, Err((0, Ended { code: ENHANCE_YOUR_CALM, flood: Some(flood) })));
        // The next second is another one.
        assert_eq!(frames.received(&frame, || 1), Ok(()), "{flood:?}");
    }
}

#[test]
fn one_head_comes_in_so_many_parts() {
    let mut frames = begun();
    assert_eq!(frames.received(&frame(1, HEADERS, END_STREAM, 1), || 0), Ok(()));
    for second in 0..6 {
        assert!(frames.is_in_head());
        assert_eq!(frames.received(&frame(1, CONTINUATION, 0, 1), || second), Ok(()));
    }
    let over = frames.received(&frame(1, CONTINUATION, END_HEADERS, 1), || 9);
    assert_eq!(over, Err((0, Ended::flood(Flood::Continuation))));
}

#[test]
fn who_gets_much_may_update_often() {
    let mut frames = begun();
    assert_eq!(frames.sent(&frame(16_384, DATA, 0, 1), || 0), Ok(()));
    let update = frame(4, WINDOW_UPDATE, 0, 1);
    for _ in 0..1000 + 16_393 / 256 {
        assert_eq!(frames.received(&update, || 0), Ok(()));
    }
    assert!(frames.received(&update, || 0).is_err());
}

#[test]
fn only_resets_that_the_client_caused_count() {
    let reset = |code| {
        let mut bytes = frame(4, RST_STREAM, 0, 1);
        bytes[12] = code;
        bytes
    };
    let mut frames = begun();
    for code in [0, 2, 8] {
        for _ in 0..100 {
            assert_eq!(frames.sent(&reset(code), || 0), Ok(()));
        }
    }
    for _ in 0..10 {
        for byte in reset(1) {
            assert_eq!(frames.sent(&[byte], || 0), Ok(()));
        }
    }
    assert_eq!(frames.sent(&reset(3), || 0), Err(Ended::flood(Flood::MadeYouReset)));
}

#[test]
fn what_no_frame_may_be() {
    for (frame, code) in [
        (frame(7, PING, 0, 0), FRAME_SIZE_ERROR),
        (frame(5, SETTINGS, 0, 0), FRAME_SIZE_ERROR),
        (frame(6, SETTINGS, ACK, 0), FRAME_SIZE_ERROR),
        (frame(3, RST_STREAM, 0, 1), FRAME_SIZE_ERROR),
        (frame(5, WINDOW_UPDATE, 0, 1), FRAME_SIZE_ERROR),
        (frame(4, GOAWAY, 0, 0), FRAME_SIZE_ERROR),
        (frame(16_385, DATA, 0, 1), FRAME_SIZE_ERROR),
        (frame(9, PUSH_PROMISE, END_HEADERS, 1), PROTOCOL_ERROR),
        (frame(1, CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
    ] {
        let good = frame_ping();
        let bytes = [good.clone(), frame].concat();
        assert_eq!(begun().received(&bytes, || 0), Err((good.len(), Ended::wrong(code))));
    }
    let mut frames = Frames::new(Limits::new(10, 32 * 1024, 100));
    assert_eq!(frames.received(b"PRI * HTTP/2.0\r\n\r\nSM", || 0), Ok(()));
    assert_eq!(frames.received(b"XX", || 0), Err((0, Ended::wrong(PROTOCOL_ERROR))));
    let mut frames = Frames::new(Limits::new(10, 32 * 1024, 100));
    assert_eq!(frames.received(PREFACE, || 0), Ok(()));
    assert!(frames.received(&frame_ping(), || 0).is_err(), "SETTINGS come first");
}

fn frame_ping() -> Vec<u8> {
    frame(8, PING, 0, 0)
}

#[test]
fn the_last_word() {
    let [.., last, _, _, _, code] = goaway(7, 11);
    assert_eq!((last, code), (7, 11));
}

#[test]
fn what_the_codec_ended_it_for_is_read_from_its_goaway() {
    for (words, flood) in [
        (&b"too_many_data_frames"[..], Flood::EmptyData),
        (b"header_list_way_too_large", Flood::Hpack),
        (b"something else that is longer than all we know", Flood::Other),
    ] {
        let mut bytes = goaway(1, ENHANCE_YOUR_CALM).to_vec();
        bytes.extend_from_slice(words);
        bytes[2] = 8 + words.len() as u8;
        for step in [1, 5, 100] {
            let mut frames = begun();
            for piece in [&frame_ping()[..], &bytes, &frame_ping()].concat().chunks(step) {
                assert_eq!(frames.sent(piece, || 0), Ok(()));
            }
            assert_eq!(frames.of_codec(), Some(flood), "by {step}");
        }
    }
    let mut frames = begun();
    assert_eq!(frames.sent(&goaway(1, NO_ERROR), || 0), Ok(()));
    assert_eq!(frames.of_codec(), None);
}

/// The head of a request with so many fields of three bytes.
fn crowded(fields: usize, stream: u8) -> Vec<u8> {
    let mut head = frame(3 * fields, HEADERS, END_STREAM | END_HEADERS, stream);
    head[HEAD..].copy_from_slice(&[0, 0, 0].repeat(fields));
    head
}

#[test]
fn one_head_may_have_too_many_fields() {
    for step in [1, 10, 100_000] {
        let mut frames = begun();
        let first = crowded(106, 1);
        let ping = frame(8, PING, 0, 0);
        for piece in
            [&first[..], &ping, &crowded(105, 9), &crowded(1, 11), &ping].concat().chunks(step)
        {
            assert_eq!(frames.received(piece, || 0), Ok(()), "by {step}");
        }
        assert_eq!(frames.counts.pings, 2);
        let mut ended = Ok(());
        for piece in crowded(106, 13).chunks(step) {
            ended = ended.and(frames.received(piece, || 0));
        }
        let (_, why) = ended.expect_err("one too many");
        assert_eq!(why, Ended::flood(Flood::LargeHead), "by {step}");
    }
}

#[test]
fn fields_are_counted_over_the_parts_of_a_head() {
    let mut frames = begun();
    let parts = |stream| {
        let mut parts = crowded(60, stream);
        parts[4] = END_STREAM;
        let mut rest = crowded(60, stream);
        (rest[3], rest[4]) = (CONTINUATION, END_HEADERS);
        [parts, rest].concat()
    };
    assert_eq!(frames.received(&parts(1), || 0), Ok(()));
    assert_eq!(
        frames.received(&parts(3), || 0).map_err(|(_, why)| why),
        Err(Ended::flood(Flood::LargeHead))
    );
}
