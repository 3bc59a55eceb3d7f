//! Text from files.

/// The longest name of a task that is kept, bytes: the kernel's have 15, those of its workers
/// up to 63.
const LONGEST: usize = 64;

/// A name as a file has it, up to the first NUL.
pub(crate) fn name(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]).into_owned();
    // What was cut in the middle of a character became a longer one.
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// Some bytes, for people.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let all: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    all.join(" ")
}
