//! Protocol buffers, as far as we read them. See
//! <https://protobuf.dev/programming-guides/encoding/>.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// `int32`, `uint64`, `bool` and so on.
    Number(u64),
    /// `string`, `bytes`, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// `fixed32` or `fixed64`, which nothing that we read has.
    Fixed,
}

impl<'a> Value<'a> {
    /// 0, if it is none.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            _ => 0,
        }
    }

    /// A number of 32 bits.
    pub(crate) fn small(self) -> u32 {
        self.number() as u32
    }

    /// Empty, if they are none.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// A number from its first byte on, and how many bytes it takes; `None`: it is cut off, or
/// longer than numbers are.
pub(crate) fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if *byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// The fields of a message, up to where it makes no sense.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    /// It made no sense.
    pub(crate) broken: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self {
            rest: message,
            broken: false,
        }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(first)
    }

    fn number(&mut self) -> Option<u64> {
        let (value, len) = number(self.rest)?;
        self.rest = &self.rest[len..];
        Some(value)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.broken {
            return None;
        }
        let field = self.field();
        self.broken = field.is_none();
        field
    }
}

/// The numbers of a packed field.
pub(crate) fn packed(mut bytes: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let (value, len) = number(bytes)?;
        bytes = &bytes[len..];
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_up_to_where_they_make_no_sense() {
        // 1: 300, 2: "ab", 3: fixed64, then a field that is longer than what is there.
        let bytes = [
            0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x22, 9, 1,
        ];
        let mut fields = Fields::of(&bytes);
        let all: Vec<_> = fields.by_ref().collect();
        assert_eq!(
            all,
            [
                (1, Value::Number(300)),
                (2, Value::Bytes(b"ab")),
                (3, Value::Fixed)
            ]
        );
        assert!(fields.broken);
        assert_eq!(number(&[0xff; 12]), None);
        assert_eq!(number(&[0xff; 9]), None);
        assert_eq!(packed(&[1, 0x80, 1, 0x80]).collect::<Vec<_>>(), [1, 128]);
    }
}
