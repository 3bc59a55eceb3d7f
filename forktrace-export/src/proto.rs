//! Protocol buffers, as far as we write them: a message is a run of fields, and each is a
//! number, or bytes with their length before them.
//!
//! By hand, since this is all that it takes: with a library every message would have to be
//! declared again, each with fields by the hundred of which we write five.
//! See <https://protobuf.dev/programming-guides/encoding/>.

/// A message that is being put together.
#[derive(Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// What there is so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins anew, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// `int64`, `uint64`, `bool` and so on. Negative numbers take ten bytes.
    pub(crate) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// `fixed64`.
    pub(crate) fn fixed(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3 | 1);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// `string` and `bytes`.
    pub(crate) fn text(&mut self, field: u32, text: &str) -> &mut Self {
        self.raw(field, text.as_bytes())
    }

    fn raw(&mut self, field: u32, bytes: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    /// The fields of another message after those of this one.
    pub(crate) fn append(&mut self, fields: &Message) -> &mut Self {
        self.bytes.extend(&fields.bytes);
        self
    }

    /// A message within this one.
    pub(crate) fn message(&mut self, field: u32, fill: impl FnOnce(&mut Message)) -> &mut Self {
        // Nearly all are shorter than 128 bytes, whose length takes one byte.
        self.varint(u64::from(field) << 3 | 2);
        let at = self.bytes.len();
        self.bytes.push(0);
        fill(self);
        let length = self.bytes.len() - at - 1;
        if length < 0x80 {
            self.bytes[at] = length as u8;
        } else {
            let end = self.bytes.len();
            self.varint(length as u64);
            let digits = self.bytes.split_off(end);
            self.bytes.splice(at..=at, digits);
        }
        self
    }

    /// Numbers that are one after the other under one field.
    pub(crate) fn numbers(
        &mut self,
        field: u32,
        values: impl IntoIterator<Item = u64>,
    ) -> &mut Self {
        self.message(field, |packed| {
            for value in values {
                packed.varint(value);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_the_documentation_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        assert_eq!(message.bytes(), [0x08, 0x96, 0x01]);
        message.clear();
        message.text(2, "testing");
        assert_eq!(message.bytes(), b"\x12\x07testing");
        message.clear();
        message.message(3, |inner| {
            inner.number(1, 150);
        });
        assert_eq!(message.bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        message.clear();
        message.numbers(6, [3, 270, 86942]);
        assert_eq!(message.bytes(), b"\x32\x06\x03\x8e\x02\x9e\xa7\x05");
    }

    #[test]
    fn a_long_message_has_a_long_length() {
        let mut message = Message::default();
        message.message(1, |inner| {
            inner.text(1, &"x".repeat(200));
        });
        assert_eq!(&message.bytes()[..6], [0x0a, 0xcb, 0x01, 0x0a, 0xc8, 0x01]);
        assert_eq!(message.len(), 206);
    }
}
