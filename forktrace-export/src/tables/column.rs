//! Columns: what they hold in memory, and how they are packed.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    basic::{Encoding, LogicalType, Repetition, TimeUnit, Type},
    column::writer::{ColumnWriter, get_column_writer},
    data_type::ByteArray,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
        writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite},
    },
    schema::types::{ColumnPath, SchemaDescriptor, Type as Field},
};

use super::{delta, dictionary, dictionary::Runs, pages, pages::Packed};

/// Numbers of single rows are put into no dictionary where more than so many differ.
const MOST_NUMBERS: u32 = 1 << 15;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 64 bits with a sign: Spark has none without.
    Number,
    /// Microseconds since 1970, UTC.
    Timestamp,
    Real,
    Truth,
    Text,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
    /// A row may have no value: not known, or not measured.
    optional: bool,
    /// Its values seldom come twice.
    differs: bool,
}

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            optional: false,
            differs: false,
        }
    }

    pub(super) const fn number(name: &'static str) -> Self {
        Self::new(name, Kind::Number)
    }

    pub(super) const fn timestamp(name: &'static str) -> Self {
        Self {
            differs: true,
            ..Self::new(name, Kind::Timestamp)
        }
    }

    pub(super) const fn real(name: &'static str) -> Self {
        Self::new(name, Kind::Real)
    }

    pub(super) const fn truth(name: &'static str) -> Self {
        Self::new(name, Kind::Truth)
    }

    pub(super) const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    /// It may have no value.
    pub(super) const fn or_none(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    /// Its values seldom come twice, so that a dictionary of them would not help.
    pub(super) const fn that_differs(self) -> Self {
        Self {
            differs: true,
            ..self
        }
    }

    fn field(&self) -> Result<Field, parquet::errors::ParquetError> {
        let (physical, logical) = match self.kind {
            Kind::Number => (Type::INT64, None),
            Kind::Timestamp => {
                let logical = LogicalType::timestamp(true, TimeUnit::MICROS);
                (Type::INT64, Some(logical))
            }
            Kind::Real => (Type::DOUBLE, None),
            Kind::Truth => (Type::BOOLEAN, None),
            Kind::Text => (Type::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let repetition = if self.optional {
            Repetition::OPTIONAL
        } else {
            Repetition::REQUIRED
        };
        Field::primitive_type_builder(self.name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build()
    }
}

/// A number as a table has it: what is too large for it, which no time and no count is, is
/// the largest that there is.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Number(i64),
    Real(f64),
    Truth(bool),
    Text(&'a str),
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Number(number(value))
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Number(i64::from(value))
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Truth(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// Texts, each once.
#[derive(Debug, Default)]
pub(super) struct Words {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<ByteArray>,
}

impl Words {
    /// The number of a text.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.into(), number);
        self.texts.push(ByteArray::from(text));
        number
    }

    /// The texts, for numbers that were given out.
    pub(super) fn given_out(&self) -> Self {
        Self {
            numbers: HashMap::new(),
            texts: self.texts.clone(),
        }
    }
}

/// The values of a column.
#[derive(Debug)]
enum Values {
    Numbers(Vec<i64>),
    Reals(Vec<f64>),
    Truths(Vec<bool>),
    /// By their numbers.
    Texts(Vec<u32>),
    /// One of some for several rows one after the other, or none.
    SomeNumbers(Arc<Runs>, Vec<Option<i64>>),
    SomeTexts(Arc<Runs>, Vec<Option<u32>>),
}

/// A column of some rows.
#[derive(Debug)]
pub(super) struct Filled {
    values: Values,
    /// Of a column that may have no value: 1 for each row that has one.
    defined: Vec<i16>,
}

impl Filled {
    fn of(values: Values) -> Self {
        Self {
            values,
            defined: Vec::new(),
        }
    }

    pub(super) fn numbers(values: Vec<i64>) -> Self {
        Self::of(Values::Numbers(values))
    }

    /// One of these numbers for so many rows after the other.
    pub(super) fn some_numbers(runs: &Arc<Runs>, of: Vec<Option<i64>>) -> Self {
        Self::of(Values::SomeNumbers(Arc::clone(runs), of))
    }

    /// The same of texts, by their numbers.
    pub(super) fn some_texts(runs: &Arc<Runs>, of: Vec<Option<u32>>) -> Self {
        Self::of(Values::SomeTexts(Arc::clone(runs), of))
    }

    /// Values, each of a row, and which rows have none.
    fn each<T: Copy>(&self, values: &[T]) -> impl Iterator<Item = (Option<T>, u32)> + Clone {
        let all = self.defined.is_empty().then_some(values);
        let all = all.unwrap_or_default().iter().map(|one| (Some(*one), 1));
        let mut next = values.iter().copied();
        let some = self.defined.iter().map(move |defined| match defined {
            0 => (None, 1),
            _ => (next.next(), 1),
        });
        all.chain(some)
    }
}

/// Of values of which each stands for some rows one after the other.
fn each_of<T: Copy>(
    runs: &Runs,
    values: &[Option<T>],
) -> impl Iterator<Item = (Option<T>, u32)> + Clone {
    let of = |(which, times): (u32, u32)| (values.get(which as usize).copied().flatten(), times);
    runs.iter().map(of)
}

/// Rows of a table, in columns.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Filled>,
    optional: Vec<bool>,
    words: Words,
    len: usize,
}

impl Rows {
    pub(super) fn new(columns: &[Column]) -> Self {
        let fill = |column: &Column| Filled {
            values: match column.kind {
                Kind::Number | Kind::Timestamp => Values::Numbers(Vec::new()),
                Kind::Real => Values::Reals(Vec::new()),
                Kind::Truth => Values::Truths(Vec::new()),
                Kind::Text => Values::Texts(Vec::new()),
            },
            defined: Vec::new(),
        };
        Self {
            columns: columns.iter().map(fill).collect(),
            optional: columns.iter().map(|it| it.optional).collect(),
            words: Words::default(),
            len: 0,
        }
    }

    /// So many, of columns that were filled. `words`: what the numbers of texts are of.
    pub(super) fn of(len: usize, columns: Vec<Filled>, words: Words) -> Self {
        Self {
            // Nothing is pushed to them.
            optional: Vec::new(),
            columns,
            words,
            len,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a row: of texts, or of numbers of texts.
    pub(super) fn push(&mut self, row: &[Value<'_>]) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.len += 1;
        for ((filled, optional), value) in self.columns.iter_mut().zip(&self.optional).zip(row) {
            if *optional {
                filled
                    .defined
                    .push(i16::from(!matches!(value, Value::None)));
                if matches!(value, Value::None) {
                    continue;
                }
            }
            match (&mut filled.values, value) {
                (Values::Numbers(all), Value::Number(one)) => all.push(*one),
                (Values::Reals(all), Value::Real(one)) => all.push(*one),
                (Values::Truths(all), Value::Truth(one)) => all.push(*one),
                (Values::Texts(all), Value::Text(one)) => all.push(self.words.number(one)),
                (values, value) => unreachable!("{value:?} in a column of {values:?}"),
            }
        }
    }

    /// Packs them: a row group, without a place yet.
    pub(super) fn encode(self, columns: &[Column]) -> io::Result<RowGroup> {
        let schema = schema(columns)?;
        let properties = Arc::new(properties(columns));
        let (rows, words) = (self.len, self.words);
        let encode = |(at, filled): (usize, Filled)| {
            let numbered = match &filled.values {
                Values::Numbers(all) if columns[at].differs && !columns[at].optional => {
                    return delta::encode(schema.column(at), all);
                }
                Values::Numbers(all) => dictionary::numbers(filled.each(all), MOST_NUMBERS),
                Values::SomeNumbers(runs, of) => dictionary::numbers(each_of(runs, of), u32::MAX),
                Values::Texts(all) => Some(dictionary::texts(&words.texts, filled.each(all))),
                Values::SomeTexts(runs, of) => {
                    Some(dictionary::texts(&words.texts, each_of(runs, of)))
                }
                _ => None,
            };
            if let Some(numbered) = numbered {
                return numbered.encode(schema.column(at));
            }
            let mut bytes = TrackedWrite::new(Vec::new());
            let pages = SerializedPageWriter::new(&mut bytes);
            let descriptor = schema.column(at);
            let mut writer = get_column_writer(descriptor, properties.clone(), Box::new(pages));
            let defined = (!filled.defined.is_empty()).then_some(&filled.defined[..]);
            match (&mut writer, &filled.values) {
                (ColumnWriter::Int64ColumnWriter(to), Values::Numbers(all)) => {
                    to.write_batch(all, defined, None)?
                }
                (ColumnWriter::DoubleColumnWriter(to), Values::Reals(all)) => {
                    to.write_batch(all, defined, None)?
                }
                (ColumnWriter::BoolColumnWriter(to), Values::Truths(all)) => {
                    to.write_batch(all, defined, None)?
                }
                _ => unreachable!("columns are filled as they are described"),
            };
            let closed = writer.close()?;
            Ok((Bytes::from(bytes.into_inner()?), closed))
        };
        let encoded: Result<_, parquet::errors::ParquetError> =
            self.columns.into_iter().enumerate().map(encode).collect();
        Ok(RowGroup {
            rows,
            columns: encoded.map_err(io_error)?,
        })
    }
}

/// Packed rows.
pub(super) struct RowGroup {
    rows: usize,
    columns: Vec<Packed>,
}

impl RowGroup {
    /// How many.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}

/// A file of rows.
pub(super) struct Writer {
    file: SerializedFileWriter<Box<dyn Write + Send>>,
}

impl Writer {
    pub(super) fn new(to: Box<dyn Write + Send>, columns: &[Column]) -> io::Result<Self> {
        let schema = schema(columns)?.root_schema_ptr();
        let properties = Arc::new(properties(columns));
        let file = SerializedFileWriter::new(to, schema, properties).map_err(io_error)?;
        Ok(Self { file })
    }

    /// Adds packed rows.
    pub(super) fn append(&mut self, rows: RowGroup) -> io::Result<()> {
        let append = || {
            let mut group = self.file.next_row_group()?;
            for (bytes, closed) in rows.columns {
                group.append_column(&bytes, closed)?;
            }
            group.close().map(drop)
        };
        append().map_err(io_error)
    }

    /// Writes the end, without which it is no file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.finish().map_err(io_error)?;
        self.file.flush()
    }
}

fn schema(columns: &[Column]) -> io::Result<SchemaDescriptor> {
    let build = || {
        let fields: Result<Vec<_>, _> = columns.iter().map(|it| it.field().map(Arc::new)).collect();
        let root = Field::group_type_builder("row")
            .with_fields(fields?)
            .build()?;
        Ok(SchemaDescriptor::new(Arc::new(root)))
    };
    build().map_err(io_error)
}

fn properties(columns: &[Column]) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        // What all three engines have read for years.
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(pages::compression())
        // Within a row group, tasks come one after the other: no page lacks a time or a length that
        // others have.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(super::ROW_GROUP)
        .set_created_by(concat!("forktrace ", env!("CARGO_PKG_VERSION")).to_owned());
    for column in columns {
        let path = ColumnPath::from(column.name);
        if column.differs {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

/// The error of a file is what it was; others are of the values, which are ours.
fn io_error(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
