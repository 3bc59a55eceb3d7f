//! Finds the windows of a file.

use super::{KIND_INDEX, KIND_TAIL, KIND_WINDOW, TAIL, Window};
use crate::{
    trace::{Finish, Header},
    trace_file::{
        bytes::Source,
        codec::read_fields,
        container::{Blocks, blocks_of},
        damage::OpenError,
        format::{
            FILE_HEADER_LEN, KIND_FINISH, KIND_HEADER, MAX_HEADER_LEN, OLDEST_VERSION, VERSION,
        },
    },
};

/// What a file has to say of its windows.
#[derive(Debug)]
pub struct Found {
    /// In the order of the file.
    pub windows: Vec<Window>,
    /// The beginning of the recording.
    pub start_ns: u64,
    /// Its end, or the latest moment that any block covers.
    pub end_ns: u64,
}

/// Finds the windows of a file: in its index, or else by going from block to block. `None`: what
/// was recorded can't be read.
///
/// # Errors
/// When it is not a trace of a version that can be read.
pub fn find(data: Source<'_>) -> Result<Option<Found>, OpenError> {
    let mut blocks = blocks_of(data, OLDEST_VERSION..=VERSION)?;
    let header = content(&mut blocks, FILE_HEADER_LEN as u64, KIND_HEADER);
    let header = header.filter(|it| it.len() <= MAX_HEADER_LEN);
    let header: Option<Header> = header.and_then(|it| read_fields(&it).ok());
    let Some(header) = header else {
        return Ok(None);
    };
    let (windows, end_ns) = match in_index(&mut blocks) {
        Some(found) => found,
        None => {
            let mut all = blocks_of(data, OLDEST_VERSION..=VERSION)?;
            by_looking(&mut all, &mut blocks)
        }
    };
    Ok(Some(Found {
        windows,
        start_ns: header.start_ns,
        end_ns: end_ns.max(header.start_ns),
    }))
}

/// The content of the block that begins there, if it is of this kind.
fn content(blocks: &mut Blocks<'_>, offset: u64, kind: u8) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    if !blocks.go_to(offset) {
        return None;
    }
    let block = blocks.read_next(&mut payload)?.ok()?;
    (block.info.kind == kind).then_some(payload)
}

fn in_index(blocks: &mut Blocks<'_>) -> Option<(Vec<Window>, u64)> {
    let last = blocks.last().filter(|last| last.info.kind == KIND_FINISH)?;
    let tail = blocks.before(last.offset, TAIL)?;
    let finish = content(blocks, last.offset, KIND_FINISH)?;
    let finish = Some(finish).filter(|it| it.len() <= MAX_HEADER_LEN)?;
    let finish: Finish = read_fields(&finish).ok()?;
    let tail = content(blocks, tail, KIND_TAIL)?;
    let index = u64::from_le_bytes(*tail.first_chunk()?);
    let index = content(blocks, index, KIND_INDEX)?;
    Some((read_fields(&index).ok()?, finish.end_ns))
}

/// `inside`: the same file, to look into some blocks.
fn by_looking(blocks: &mut Blocks<'_>, inside: &mut Blocks<'_>) -> (Vec<Window>, u64) {
    let (mut windows, mut last_ns, mut end) = (Vec::new(), 0, None);
    while let Some(block) = blocks.pass() {
        last_ns = last_ns.max(block.info.last_ns);
        match block.info.kind {
            KIND_WINDOW => {
                let window = content(inside, block.offset, KIND_WINDOW);
                windows.extend(window.and_then(|it| read_fields::<Window>(&it).ok()));
            }
            KIND_FINISH => {
                let finish = content(inside, block.offset, KIND_FINISH);
                let finish = finish.filter(|it| it.len() <= MAX_HEADER_LEN);
                let finish: Option<Finish> = finish.and_then(|it| read_fields(&it).ok());
                end = end.or(finish.map(|it| it.end_ns));
            }
            _ => {}
        }
    }
    (windows, end.unwrap_or(last_ns))
}
