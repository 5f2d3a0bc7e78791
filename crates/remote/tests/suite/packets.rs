//! Framing, run lengths, escapes.

use proptest::prelude::*;
use remote::packet::{Decoder, Item, TooLong, escape, frame, hex, unescape, unhex};

/// All items of these bytes, by a decoder with this limit.
fn decode(limit: usize, bytes: &[u8]) -> Result<Vec<Item>, TooLong> {
    let mut decoder = Decoder::new(limit);
    let mut items = Vec::new();
    for byte in bytes {
        items.extend(decoder.push(*byte)?);
    }
    Ok(items)
}

fn packet(content: &[u8]) -> Item {
    Item::Packet(content.to_vec())
}

fn framed(raw: &str) -> Vec<u8> {
    frame(raw.as_bytes())
}

/// The examples of the GDB manual ("Overview").
#[test]
fn a_run_is_expanded() {
    assert_eq!(decode(100, b"$0* #7a"), Ok(vec![packet(b"0000")]));
    assert_eq!(decode(200, &framed("x*!y*~")), Ok(vec![packet(&[&b"xxxxx"[..], &[b'y'; 98]].concat())]));
}

#[test]
fn a_run_of_nothing_or_of_no_length_is_damage() {
    for raw in ["* ", "0*\u{1f}", "0*\u{7f}"] {
        assert_eq!(decode(100, &framed(raw)), Ok(vec![Item::Damaged]), "{raw:?}");
    }
}

/// Escapes are undone by whoever knows that the packet is binary, after the runs.
#[test]
fn a_run_may_repeat_the_second_half_of_an_escape() {
    let items = decode(100, &framed("}\u{3}* ")).unwrap();
    let [Item::Packet(content)] = items.as_slice() else { panic!("{items:?}") };
    assert_eq!(unescape(content), Some(vec![b'#', 3, 3, 3]));
}

#[test]
fn acknowledgements_notifications_and_noise_stand_between_packets() {
    let items = decode(100, b"\n+$OK#9axyz-%Stop:T05#99$#00+").unwrap();
    let notification = Item::Notification(b"Stop:T05".to_vec());
    assert_eq!(items, [Item::Ack, packet(b"OK"), Item::Nack, notification, packet(b""), Item::Ack]);
}

#[test]
fn wrong_checksums_are_damage() {
    for bytes in ["$OK#9b", "$OK#zz", "$OK#9", "$OK#+a", "$#01"] {
        let items = decode(100, format!("{bytes} ").as_bytes()).unwrap();
        assert_eq!(items, [Item::Damaged], "{bytes}");
    }
    assert_eq!(decode(100, b"$OK#9A"), Ok(vec![packet(b"OK")]));
}

#[test]
fn a_packet_that_begins_in_another_takes_its_place() {
    assert_eq!(decode(100, b"$T05thr$OK#9a"), Ok(vec![packet(b"OK")]));
}

#[test]
fn nothing_longer_than_the_limit_is_held() {
    assert_eq!(decode(4, &framed("0123")), Ok(vec![packet(b"0123")]));
    assert_eq!(decode(4, &framed("01234")), Err(TooLong));
    // A run is longer than its text.
    assert_eq!(decode(50, &framed("0*~")), Err(TooLong));
    assert_eq!(decode(4, b"xxxxx"), Err(TooLong));
    // Nor a packet that begins again and again.
    assert_eq!(decode(50, "$0".repeat(100).as_bytes()), Err(TooLong));
}

#[test]
fn digits_are_pairs() {
    assert_eq!(unhex(b"00fFa5"), Some(vec![0, 0xff, 0xa5]));
    for wrong in ["0", "0g", "+1", " 1", "0x12", "\u{e9}"] {
        assert_eq!(unhex(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(unescape(b"ab}"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_escaped_and_framed_is_read_again(data: Vec<u8>) {
        let escaped = escape(&data);
        let has_special = escaped.iter().any(|byte| b"$#".contains(byte));
        prop_assert!(!has_special);
        prop_assert_eq!(unescape(&escaped), Some(data));
        // Our packets hold no runs: a `*` of ours is read as one only by a decoder of replies.
        if !escaped.contains(&b'*') {
            let items = decode(escaped.len(), &frame(&escaped)).unwrap();
            prop_assert_eq!(items, [Item::Packet(escaped)]);
        }
    }

    #[test]
    fn digits_are_read_again(data: Vec<u8>) {
        prop_assert_eq!(unhex(hex(&data).as_bytes()), Some(data));
    }

    /// A reply whose runs a server shortened as it liked.
    #[test]
    fn runs_are_what_they_stand_for(runs in prop::collection::vec((0_u8..26, 0_u8..98), 0..30)) {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for (letter, times) in runs {
            let letter = b'a' + letter;
            short.push(letter);
            long.push(letter);
            // Lengths whose letter would be `$`, `#`, `+` or `-` are not used by servers.
            if times >= 3 && !b"$#+-".contains(&(times + 29)) {
                short.extend([b'*', times + 29]);
                long.extend(std::iter::repeat_n(letter, usize::from(times)));
            }
        }
        prop_assert_eq!(decode(long.len(), &frame(&short)).unwrap(), [Item::Packet(long)]);
    }

    /// Any bytes give items or an end, and never more than the limit.
    #[test]
    fn any_bytes_are_bounded(bytes: Vec<u8>, limit in 0_usize..40) {
        for item in decode(limit, &bytes).unwrap_or_default() {
            if let Item::Packet(content) | Item::Notification(content) = item {
                prop_assert!(content.len() <= limit);
            }
        }
    }
}
