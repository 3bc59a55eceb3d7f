//! The memory of a process, read page by page, each page once.

use std::{collections::HashMap, fs::File};

use super::tables::read;

pub(super) const PAGE: u64 = 4096;

/// The pages that were read.
pub(super) struct Pages<'a> {
    memory: &'a File,
    pages: HashMap<u64, Vec<u8>>,
    most: usize,
    /// From the first word that was asked for to behind the last one.
    span: Option<(u64, u64)>,
}

impl<'a> Pages<'a> {
    /// No more pages than so are read.
    pub(super) fn new(memory: &'a File, most: usize) -> Self {
        Self {
            memory,
            pages: HashMap::new(),
            most,
            span: None,
        }
    }

    /// From the first word that was asked for to behind the last one.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        self.span
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// There are as many as may be.
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() >= self.most
    }

    fn page(&mut self, page: u64) -> Option<&[u8]> {
        if !self.pages.contains_key(&page) {
            if self.is_full() {
                return None;
            }
            let bytes = read(self.memory, page, PAGE);
            if bytes.is_empty() {
                return None;
            }
            self.pages.insert(page, bytes);
        }
        self.pages.get(&page).map(Vec::as_slice)
    }

    /// What is there; `None`: not all of it can be read.
    pub(super) fn bytes(&mut self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length.min(PAGE as usize));
        while bytes.len() < length {
            let from = address.checked_add(bytes.len() as u64)?;
            let at = (from % PAGE) as usize;
            let page = self.page(from - from % PAGE)?.get(at..)?;
            let more = page.len().min(length - bytes.len());
            if more == 0 {
                return None;
            }
            bytes.extend_from_slice(&page[..more]);
        }
        Some(bytes)
    }

    fn array<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        let at = (address % PAGE) as usize;
        let page = self.page(address - address % PAGE)?;
        match page.get(at..).and_then(|bytes| bytes.first_chunk()) {
            Some(array) => Some(*array),
            None => self.bytes(address, N)?.try_into().ok(),
        }
    }

    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        let (from, to) = self.span.unwrap_or((address, address));
        let end = address.saturating_add(8);
        self.span = Some((from.min(address), to.max(end)));
        self.array(address).map(u64::from_ne_bytes)
    }

    pub(super) fn half(&mut self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_ne_bytes)
    }

    pub(super) fn byte(&mut self, address: u64) -> Option<u8> {
        self.array(address).map(|[byte]| byte)
    }
}
