//! The whole boundary to Python; see `broker/_core.pyi` for its contract. Nothing is decided here.
//!
//! Here is a single log, in `requests` are whole requests over a table of logs.
//!
//! Every call gives up the interpreter's lock while it works. A buffer that came from Python is held (and with it its
//! owner) as long as its slice is in use.
#![allow(unsafe_code)]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec::Scratch;
use crate::error::Error;
use crate::log::{Config, Log, Writer};
use crate::salvage::Damage;

mod requests;

pyo3::import_exception!(tidemill_broker.protocol.errors, MalformedFrame);
pyo3::import_exception!(tidemill_broker.log.errors, InvalidBatch);
pyo3::import_exception!(tidemill_broker.log.errors, OffsetOutOfRange);

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Malformed(why) => MalformedFrame::new_err(why),
            Error::Refused(refusal) => InvalidBatch::new_err((refusal.code, refusal.message)),
            Error::OutOfRange(why) => OffsetOutOfRange::new_err(why),
            Error::Damaged(why) => PyOSError::new_err(why),
            Error::Io(fault) => match fault.raw_os_error() {
                Some(number) => PyOSError::new_err((number, fault.to_string())),
                None => PyOSError::new_err(fault.to_string()),
            },
        }
    }
}

/// The bytes of a Python buffer together with what keeps them alive.
struct Borrowed(PyBuffer<u8>);

impl Borrowed {
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::<u8>::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer must be contiguous"));
        }
        Ok(Borrowed(buffer))
    }

    fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: the view keeps the memory in place and alive until it is released, which `self` does when dropped.
        // Callers hand in frames that nobody writes to during the call (the connection reads into them only between
        // calls), which is what makes a shared slice sound.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }
}

#[pyclass(frozen, module = "tidemill_broker._core", name = "LogConfig")]
struct LogConfig(Config);

#[pymethods]
impl LogConfig {
    #[new]
    #[pyo3(signature = (*, segment_bytes, segment_ms, index_interval_bytes, retention_ms, retention_bytes, delete,
        compact, max_message_bytes, log_append_time, timestamp_before_max_ms, timestamp_after_max_ms, flush_messages,
        producer_expiration_ms))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        segment_bytes: i64,
        segment_ms: i64,
        index_interval_bytes: i64,
        retention_ms: i64,
        retention_bytes: i64,
        delete: bool,
        compact: bool,
        max_message_bytes: i64,
        log_append_time: bool,
        timestamp_before_max_ms: i64,
        timestamp_after_max_ms: i64,
        flush_messages: i64,
        producer_expiration_ms: i64,
    ) -> Self {
        LogConfig(Config {
            segment_bytes,
            segment_ms,
            index_interval_bytes,
            retention_ms,
            retention_bytes,
            delete,
            compact,
            max_message_bytes,
            log_append_time,
            timestamp_before_max_ms,
            timestamp_after_max_ms,
            flush_messages,
            producer_expiration_ms,
        })
    }
}

/// Damage as Python gets it: file, position, bytes, first offset lost, offset behind the last, what the file is kept as.
type Told = (PathBuf, u64, u64, i64, i64, Option<PathBuf>);

fn told(damage: &Damage) -> Told {
    let Damage { file, position, bytes, start, end, kept } = damage.clone();
    (file, position, bytes, start, end, kept)
}

#[pyclass(frozen, module = "tidemill_broker._core")]
struct PartitionLog(Arc<Log>);

#[pymethods]
impl PartitionLog {
    #[new]
    fn new(py: Python<'_>, directory: &str, config: &LogConfig, now_ms: i64) -> PyResult<Self> {
        let config = config.0;
        let log = py.detach(|| Log::open(Path::new(directory), config, now_ms))?;
        Ok(PartitionLog(Arc::new(log)))
    }

    #[getter]
    fn recovery(&self) -> (u64, u64, Vec<Told>) {
        let report = &self.0.report;
        (report.scanned_bytes, report.cut_bytes, report.damage.iter().map(told).collect())
    }

    #[getter]
    fn high_watermark(&self) -> i64 {
        self.0.marks().high_watermark
    }

    #[getter]
    fn end_offset(&self) -> i64 {
        self.0.end_offset()
    }

    #[getter]
    fn log_start(&self) -> i64 {
        self.0.marks().log_start
    }

    #[getter]
    fn leader_epoch(&self) -> i32 {
        self.0.marks().epoch
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    #[getter]
    fn segment_count(&self) -> usize {
        self.0.segment_count()
    }

    #[getter]
    fn unflushed(&self) -> bool {
        self.0.must_flush()
    }

    fn configure(&self, py: Python<'_>, config: &LogConfig) -> PyResult<()> {
        let config = config.0;
        Ok(py.detach(|| self.0.configure(config))?)
    }

    fn append(&self, py: Python<'_>, batch: &Bound<'_, PyAny>, now_ms: i64) -> PyResult<i64> {
        let batch = Borrowed::new(batch)?;
        let bytes = batch.bytes();
        let writer = Writer { is_client: false, zstd_allowed: true };
        let appended = py.detach(|| self.0.append(bytes, writer, now_ms, &mut Scratch::default()))?;
        Ok(appended.base_offset)
    }

    fn read<'py>(&self, py: Python<'py>, offset: i64, max_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (buffer, size) = py.detach(|| {
            let mut buffer = Vec::new();
            let size = match self.0.plan(offset, max_bytes)? {
                // What the broker itself reads it checks itself.
                Some(planned) => match self.0.read_planned(&planned.unchecked(), &mut buffer, 0, true) {
                    Err(Error::Damaged(_)) => 0,
                    read => read?,
                },
                None => 0,
            };
            Ok::<_, Error>((buffer, size))
        })?;
        Ok(PyBytes::new(py, &buffer[..size]))
    }

    fn offset_for_timestamp(&self, py: Python<'_>, timestamp_ms: i64) -> PyResult<Option<(i64, i64, i32)>> {
        Ok(py.detach(|| self.0.offset_for_timestamp(timestamp_ms))?)
    }

    fn max_timestamp(&self, py: Python<'_>) -> PyResult<Option<(i64, i64, i32)>> {
        Ok(py.detach(|| self.0.max_timestamp())?)
    }

    fn epoch_for_offset(&self, offset: i64) -> i32 {
        self.0.epoch_at(offset)
    }

    fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        self.0.end_offset_for_epoch(epoch)
    }

    fn delete_before(&self, py: Python<'_>, offset: i64) -> PyResult<i64> {
        Ok(py.detach(|| self.0.delete_before(offset))?)
    }

    fn retain(&self, py: Python<'_>, now_ms: i64) -> PyResult<usize> {
        Ok(py.detach(|| self.0.retain(now_ms))?)
    }

    fn flush(&self, py: Python<'_>) -> PyResult<i64> {
        Ok(py.detach(|| self.0.flush())?)
    }

    fn repair(&self, py: Python<'_>, now_ms: i64) -> PyResult<Vec<Told>> {
        let damage = py.detach(|| self.0.repair(now_ms))?;
        Ok(damage.iter().map(told).collect())
    }

    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.checkpoint())?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.close())?)
    }

    fn abandon(&self, py: Python<'_>) {
        py.detach(|| self.0.abandon());
    }
}

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::requests::{AllowedTopics, LogTable, Undecided, UnfinishedProduce, WaitingFetch};
    #[pymodule_export]
    use super::{LogConfig, PartitionLog};

    /// How the crate was built; a benchmark refuses a debug build.
    #[pymodule_export]
    const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
}
