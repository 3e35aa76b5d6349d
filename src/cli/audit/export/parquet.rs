//! Writes events in columns (Apache Parquet), compressed with zstd.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::Value;

use super::{COLUMNS, LINE, Of, Sink};

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
        let fields = COLUMNS.iter().map(|(name, of)| {
            let (physical, logical) = match of {
                Of::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Of::Number => (Physical::INT64, None),
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
                Column::Text(values, there) => {
                    writer.typed::<ByteArrayType>().write_batch(&values, Some(&there), None)?;
                }
                Column::Number(values, there) => {
                    writer.typed::<Int64Type>().write_batch(&values, Some(&there), None)?;
                }
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn empty() -> Vec<Column> {
    let column = |of: &Of| match of {
        Of::Text => Column::Text(Vec::new(), Vec::new()),
        Of::Number => Column::Number(Vec::new(), Vec::new()),
    };
    COLUMNS.iter().map(|(_, of)| column(of)).collect()
}

impl<W: Write + Send> Sink for Groups<W> {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        for ((name, _), column) in COLUMNS.iter().zip(&mut self.columns) {
            let member = event.get(*name);
            match column {
                Column::Text(values, there) => {
                    let text = if *name == LINE {
                        Some(line)
                    } else {
                        member.and_then(Value::as_str).map(str::as_bytes)
                    };
                    there.push(i16::from(text.is_some()));
                    values.extend(text.map(|text| ByteArray::from(text.to_vec())));
                }
                Column::Number(values, there) => {
                    let number = member.and_then(Value::as_i64);
                    there.push(i16::from(number.is_some()));
                    values.extend(number);
                }
            }
        }
        self.events += 1;
        if self.events >= GROUP { self.write_group() } else { Ok(()) }
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<()> {
        if self.events > 0 {
            self.write_group()?;
        }
        self.writer.finish()?;
        // The file is complete once the last buffer is written.
        Ok(self.writer.inner_mut().flush()?)
    }
}
