//! Writes events in columns (Apache Parquet), compressed with zstd.

use std::io::Write;
use std::sync::Arc;

use jiff::Timestamp;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::audit::trail::event::{COLUMNS, ColumnType, Event, Value};

/// The last column of CSV and Parquet: the complete line.
pub(super) const LINE: &str = "line";
/// The number of events in a row group, which is held in memory.
const GROUP: usize = 50_000;

/// One column of a row group: its values, and for each event whether it has one.
enum Column {
    Text(Vec<ByteArray>, Vec<i16>),
    Number(Vec<i64>, Vec<i16>),
}

/// The writer of row groups to a file.
pub(super) struct Groups<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Column>,
    events: usize,
}

impl<W: Write + Send> Groups<W> {
    pub(super) fn begin(out: W) -> anyhow::Result<Self> {
        let fields = columns().map(|(name, column_type)| {
            let (physical, logical) = match column_type {
                ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                ColumnType::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
                ColumnType::Number => (Physical::INT64, None),
            };
            let field = Type::primitive_type_builder(name, physical).with_logical_type(logical);
            Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).build()?))
        });
        let fields = fields.collect::<anyhow::Result<Vec<_>>>()?;
        let schema = Arc::new(Type::group_type_builder("event").with_fields(fields).build()?);
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Self { writer, columns: empty(), events: 0 })
    }

    fn write_group(&mut self) -> anyhow::Result<()> {
        let columns = std::mem::replace(&mut self.columns, empty());
        self.events = 0;
        let mut group = self.writer.next_row_group()?;
        for column in columns {
            let Some(mut writer) = group.next_column()? else { break };
            match column {
                Column::Text(values, present) => {
                    writer.typed::<ByteArrayType>().write_batch(&values, Some(&present), None)?;
                }
                Column::Number(values, present) => {
                    writer.typed::<Int64Type>().write_batch(&values, Some(&present), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn add(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let event = Event::parse(line);
        let values = COLUMNS.iter().map(|column| column.value(event.as_ref()?));
        let text = String::from_utf8_lossy(line);
        for (value, column) in values.chain([Some(Value::Text(&text))]).zip(&mut self.columns) {
            match column {
                Column::Text(values, present) => {
                    let text = match value {
                        Some(Value::Text(text)) => Some(ByteArray::from(text)),
                        Some(Value::Number(_)) | None => None,
                    };
                    present.push(i16::from(text.is_some()));
                    values.extend(text);
                }
                Column::Number(values, present) => {
                    let number = match value {
                        Some(Value::Text(time)) => time.parse().ok().map(Timestamp::as_microsecond),
                        Some(Value::Number(number)) => i64::try_from(number).ok(),
                        None => None,
                    };
                    present.push(i16::from(number.is_some()));
                    values.extend(number);
                }
            }
        }
        self.events += 1;
        if self.events >= GROUP { self.write_group() } else { Ok(()) }
    }

    /// Writes the last row group, and the end of the file.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if self.events > 0 {
            self.write_group()?;
        }
        self.writer.finish()?;
        // The file is complete once the last buffer is written.
        Ok(self.writer.inner_mut().flush()?)
    }
}

/// Returns the names and types of all columns.
fn columns() -> impl Iterator<Item = (&'static str, ColumnType)> {
    COLUMNS.iter().map(|column| (column.name, column.value_type)).chain([(LINE, ColumnType::Text)])
}

fn empty() -> Vec<Column> {
    let column = |(_, column_type)| match column_type {
        ColumnType::Text => Column::Text(Vec::new(), Vec::new()),
        ColumnType::Time | ColumnType::Number => Column::Number(Vec::new(), Vec::new()),
    };
    columns().map(column).collect()
}
