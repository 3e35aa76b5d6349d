//! The sink that writes lines to standard output.

use tokio::io::{AsyncWriteExt as _, Stdout as Out, stdout};

use super::trail_reader::Line;

pub(super) struct Stdout(Out);

impl Default for Stdout {
    fn default() -> Self {
        Self(stdout())
    }
}

impl Stdout {
    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Option<u64>, String> {
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
        for line in lines {
            bytes.extend_from_slice(&line.text);
            bytes.push(b'\n');
        }
        self.0.write_all(&bytes).await.map_err(|error| error.to_string())?;
        self.0.flush().await.map_err(|error| error.to_string())?;
        Ok(lines.last().map(|last| last.seq + 1))
    }
}
