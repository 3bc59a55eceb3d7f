//! Reading from the middle of a file, and past blocks without what is in them.

use super::{BLOCK_HEADER_LEN, BLOCK_MAGIC, Block, Blocks, Header};

/// The last block of a file is looked for in so many bytes.
const LAST: usize = 64 << 10;

impl Blocks<'_> {
    /// Goes on at this place in the file; false: no block begins there, and nothing has changed.
    pub fn go_to(&mut self, offset: u64) -> bool {
        let place = usize::try_from(offset).ok();
        let Some((at, header)) = place.and_then(|at| Some((at, self.header_at(at)?))) else {
            return false;
        };
        self.offset = at;
        self.next_sequence = header.sequence;
        self.next_records = header.records_before;
        true
    }

    /// The next block from here on whose header is good; it is passed over, and what is in it not
    /// looked at. What it is found behind is no damage here.
    pub fn pass(&mut self) -> Option<Block> {
        let sequence = self.next_sequence;
        let here = self.header_at(self.offset);
        let (at, header) = match here.filter(|header| header.sequence >= sequence) {
            Some(header) => (self.offset, header),
            None => self.find_header(self.offset.saturating_add(1), sequence)?,
        };
        self.offset = at + BLOCK_HEADER_LEN + header.stored_len as usize;
        self.next_sequence = header.sequence.saturating_add(1);
        self.next_records = header
            .records_before
            .saturating_add(u64::from(header.info.records));
        Some(block(at, &header))
    }

    /// The block that the file ends with.
    pub fn last(&self) -> Option<Block> {
        let from = self.data.length().saturating_sub(LAST);
        let mut buffer = Vec::new();
        let part = self.data.part(from, LAST, &mut buffer);
        let windows = part.array_windows::<4>().enumerate();
        let mut found = windows
            .rev()
            .filter(|(_, window)| **window == BLOCK_MAGIC)
            .filter_map(|(i, _)| Some((from + i, self.header_at(from + i)?)));
        found
            .find(|(at, header)| {
                at + BLOCK_HEADER_LEN + header.stored_len as usize == self.data.length()
            })
            .map(|(at, header)| block(at, &header))
    }

    /// Where a block begins that ends here and whose payload is stored as it is, and so long.
    pub fn before(&self, offset: u64, payload_len: usize) -> Option<u64> {
        let at = offset.checked_sub((BLOCK_HEADER_LEN + payload_len) as u64)?;
        let header = self.header_at(usize::try_from(at).ok()?)?;
        (header.stored_len as usize == payload_len).then_some(at)
    }
}

fn block(at: usize, header: &Header) -> Block {
    Block {
        offset: at as u64,
        sequence: header.sequence,
        info: header.info,
    }
}
