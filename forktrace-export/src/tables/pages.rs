//! A column of a row group, as it lies in a file: its pages, and what is said of them.

use std::io;

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, EncodingMask, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageWriter as _},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, PageEncodingStats},
        page_index::offset_index::{OffsetIndexMetaData, PageLocation},
        statistics::Statistics,
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

/// A column of a row group, without a place yet.
pub(super) type Packed = (Bytes, ColumnCloseResult);

/// What is said of a column.
pub(super) struct Stored {
    pub(super) statistics: Statistics,
    pub(super) encodings: EncodingMask,
    pub(super) pages: Vec<PageEncodingStats>,
}

/// So many bytes are tried first: where they don't become smaller, the others don't either.
const TRIED: usize = 64 << 10;

/// How all columns are compressed.
pub(super) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

/// Bytes, compressed.
pub(super) fn compressed(bytes: &[u8]) -> Result<Vec<u8>, ParquetError> {
    let level = ZstdLevel::default().compression_level();
    zstd::bulk::compress(bytes, level)
        .map_err(|error: io::Error| ParquetError::External(error.into()))
}

/// The same, if that makes them smaller.
fn smaller(bytes: &[u8]) -> Result<Option<Vec<u8>>, ParquetError> {
    let is_smaller = |of: usize, than: usize| of < than - than / 32;
    if let Some(first) = bytes.get(..TRIED).filter(|first| first.len() < bytes.len())
        && !is_smaller(compressed(first)?.len(), first.len())
    {
        return Ok(None);
    }
    Ok(Some(compressed(bytes)?).filter(|packed| packed.len() < bytes.len()))
}

/// A page of so many rows, of which so many have no value: which have one, and these.
pub(super) fn data(
    (rows, nulls): (usize, usize),
    encoding: Encoding,
    (levels, values): (Vec<u8>, Vec<u8>),
) -> Result<CompressedPage, ParquetError> {
    let mut buffer = levels;
    let levels_len = buffer.len();
    let uncompressed = levels_len + values.len();
    let smaller = smaller(&values)?;
    let is_compressed = smaller.is_some();
    buffer.extend(smaller.unwrap_or(values));
    let page = Page::DataPageV2 {
        buf: buffer.into(),
        num_values: rows as u32,
        encoding,
        num_nulls: nulls as u32,
        num_rows: rows as u32,
        def_levels_byte_len: levels_len as u32,
        rep_levels_byte_len: 0,
        is_compressed,
        statistics: None,
    };
    Ok(CompressedPage::new(page, uncompressed))
}

/// Puts a column of so many rows together: a dictionary, if it has one, and its values.
pub(super) fn pack(
    column: ColumnDescPtr,
    rows: usize,
    (dictionary, data): (Option<CompressedPage>, CompressedPage),
    stored: Stored,
) -> Result<Packed, ParquetError> {
    let mut sink = TrackedWrite::new(Vec::new());
    let mut writer = SerializedPageWriter::new(&mut sink);
    let dictionary = dictionary.map(|page| writer.write_page(page)).transpose()?;
    let data = writer.write_page(data)?;
    let pages = || dictionary.iter().chain([&data]);
    let compressed: usize = pages().map(|page| page.compressed_size).sum();
    let uncompressed: usize = pages().map(|page| page.uncompressed_size).sum();
    let metadata = ColumnChunkMetaData::builder(column)
        .set_compression(compression())
        .set_encodings_mask(stored.encodings)
        .set_page_encoding_stats(stored.pages)
        .set_total_compressed_size(compressed as i64)
        .set_total_uncompressed_size(uncompressed as i64)
        .set_num_values(rows as i64)
        .set_dictionary_page_offset(dictionary.as_ref().map(|page| page.offset as i64))
        .set_data_page_offset(data.offset as i64)
        .set_statistics(stored.statistics)
        .build()?;
    let place = PageLocation {
        offset: data.offset as i64,
        compressed_page_size: data.compressed_size as i32,
        first_row_index: 0,
    };
    let closed = ColumnCloseResult {
        bytes_written: pages().map(|page| page.bytes_written).sum(),
        rows_written: rows as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: Some(OffsetIndexMetaData {
            page_locations: vec![place],
            unencoded_byte_array_data_bytes: None,
        }),
    };
    Ok((Bytes::from(sink.into_inner()?), closed))
}

/// A number of variable length: seven bits a byte, the lowest first.
pub(super) fn varint(mut number: u64, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Packs numbers of some bits each, the lowest first.
pub(super) struct Bits<'a> {
    to: &'a mut Vec<u8>,
    word: u64,
    filled: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(to: &'a mut Vec<u8>) -> Self {
        Self {
            to,
            word: 0,
            filled: 0,
        }
    }

    /// Adds a number that has no more than so many bits, 64 at most.
    #[inline]
    pub(super) fn push(&mut self, number: u64, bits: u32) {
        self.word |= number << self.filled;
        self.filled += bits;
        if self.filled >= u64::BITS {
            self.to.extend_from_slice(&self.word.to_le_bytes());
            self.filled -= u64::BITS;
            // What there was no room for; of a number of 64 bits that can be nothing.
            self.word = number.checked_shr(bits - self.filled).unwrap_or(0);
        }
    }

    /// What is left, in whole bytes.
    pub(super) fn finish(self) {
        let bytes = self.filled.div_ceil(8) as usize;
        self.to.extend_from_slice(&self.word.to_le_bytes()[..bytes]);
    }
}
