//! What is no trace, and what was one.

use super::*;

#[track_caller]
fn assert_refused(data: &[u8], text: &str) {
    let error = blocks(data, VERSION..=VERSION).err().expect("not refused");
    assert_eq!(error.to_string(), text);
}

#[test]
fn what_is_not_a_trace_is_named() {
    assert_refused(
        b"",
        "the file is empty: no recording ever got as far as writing to it; record one with \
         `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        &sample().0[..12],
        "the file ends after 12 bytes, inside its 20-byte header, so there is nothing in it to \
         read; if it is a copy, copy it again, else record one with `forktrace run --save FILE \
         -- COMMAND`",
    );
    assert_refused(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01",
        "this is not a forktrace trace but a PNG image (it starts with 89 50 4e 47 0d 0a 1a 0a); \
         record one with `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        "Liebe Grüße aus Zürich".as_bytes(),
        "this is not a forktrace trace but a text file (it starts with 4c 69 65 62 65 20 47 72); \
         record one with `forktrace run --save FILE -- COMMAND`",
    );
    assert_refused(
        b"\x01\x02",
        "this is not a forktrace trace (it starts with 01 02); record one with \
         `forktrace run --save FILE -- COMMAND`",
    );
}

#[test]
fn files_are_recognised_by_how_they_start() {
    for (start, what) in [
        (
            b"PERFILE2h\0\0\0\0\0\0\0".as_slice(),
            Some("a perf recording"),
        ),
        (b"{\"schema_version\"", Some("JSON, perhaps a report")),
        (&[0; 16], Some("zeros, as after a crash")),
        // Ends inside a character.
        (b"abcdefghijklmno\xc3", Some("a text file")),
        (b"abcdefghijklm\xc3no", None),
        (b"abc\0", None),
        (b"\xc3", None),
    ] {
        assert_eq!(recognise(start), what, "{start:x?}");
    }
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let (data, _) = sample();
    let text = |supported| {
        blocks(&data, supported..=supported)
            .err()
            .unwrap()
            .to_string()
    };
    assert_eq!(
        text(2),
        "this trace was written by a newer forktrace: its format is version 3, this forktrace \
         reads version 2; update forktrace, or record it again"
    );
    assert_eq!(
        text(4),
        "this trace was written by an older forktrace: its format is version 3, this forktrace \
         reads version 4; read it with the forktrace that wrote it, or record it again"
    );
}

#[test]
fn a_transfer_as_text_is_recognised() {
    let (data, _) = sample();
    let replace = |from: &[u8], to: &[u8]| {
        let mut rest = data.as_slice();
        let mut changed = Vec::new();
        while let Some((first, others)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(from) {
                changed.extend_from_slice(to);
                rest = after;
            } else {
                changed.push(*first);
                rest = others;
            }
        }
        changed
    };
    let latin1: String = data.iter().map(|&byte| char::from(byte)).collect();
    for changed in [
        replace(b"\r\n", b"\n"),
        replace(b"\n", b"\r\n"),
        data.iter().map(|byte| byte & 0x7f).collect(),
        latin1.into_bytes(),
        String::from_utf8_lossy(&data).into_owned().into_bytes(),
    ] {
        assert!(matches!(
            blocks(&changed, VERSION..=VERSION),
            Err(OpenError::Mangled)
        ));
    }
}
