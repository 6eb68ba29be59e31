//! The whole boundary to Python; see `broker/_core.pyi` for its contract. Nothing is decided here.
//!
//! Every call gives up the interpreter's lock while it works. A buffer that came from Python is held (and with it its
//! owner) as long as its slice is in use.
#![allow(unsafe_code)]
use std::ffi::c_int;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::codec::Scratch;
use crate::error::Error;
use crate::fetch::{self, Page, Pool, Request};
use crate::log::{Config, Log, Writer};
use crate::produce;
use crate::rights::{Decided, TopicRights as Rights};
use crate::table::Table;

pyo3::import_exception!(tidemill_broker.protocol.errors, MalformedFrame);
pyo3::import_exception!(tidemill_broker.log.errors, InvalidBatch);
pyo3::import_exception!(tidemill_broker.log.errors, OffsetOutOfRange);

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Malformed(why) => MalformedFrame::new_err(why),
            Error::Refused(refusal) => InvalidBatch::new_err((refusal.code, refusal.message)),
            Error::OutOfRange(why) => OffsetOutOfRange::new_err(why),
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
    fn recovery(&self) -> (u64, u64, u64) {
        let report = self.0.report;
        (report.scanned_bytes, report.cut_bytes, report.dropped_segments)
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
                Some(planned) => self.0.read_planned(&planned, &mut buffer, 0, true)?,
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

/// What a memoryview of a response stands on; Python never sees it by itself.
#[pyclass(frozen, module = "tidemill_broker._core")]
struct Frame(Page);

/// The finished response as Python gets it: a view, not a copy.
fn view(py: Python<'_>, page: Page) -> PyResult<Bound<'_, PyMemoryView>> {
    PyMemoryView::from(Bound::new(py, Frame(page))?.as_any())
}

#[pymethods]
impl Frame {
    /// SAFETY: the class is frozen and its page never changes, so the memory stays as it is while a view (which holds
    /// a reference to `slf`) lives.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().0.bytes();
        let (start, length) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as ffi::Py_ssize_t);
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// What all calls of a table share.
#[derive(Default)]
struct Shared {
    table: RwLock<Table>,
    pool: Arc<Pool>,
    fetch_bytes_max: usize,
}

impl Shared {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, py: Python<'_>, request: &Request, last: bool, judge: &Judge<'_, '_>) -> PyResult<Option<Page>> {
        judge.once_decided(py, self, |table, decided| {
            let undecided = judge.rights.undecided(table, request.topics(), decided);
            if undecided.is_empty() { Ok(request.answer(table, decided, last, &self.pool)) } else { Err(undecided) }
        })
    }
}

/// Which topics one connection may write to, or read from, as far as it is known.
#[pyclass(frozen, module = "tidemill_broker._core")]
struct TopicRights(Rights);

#[pymethods]
impl TopicRights {
    #[new]
    fn new() -> Self {
        TopicRights(Rights::default())
    }

    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.0.forget());
    }
}

/// What is known already, and Python's word on what is not.
struct Judge<'a, 'py> {
    rights: &'a Rights,
    python: &'a Bound<'py, PyAny>,
    /// Which of Python's methods decides.
    may: &'static str,
}

const MAY_WRITE: &str = "may_write";
const MAY_READ: &str = "may_read";

/// Of one request, topics that Python decides about, and those that it may deny: each costs everybody else time.
const ASKED_MAX: usize = 100_000;
const DENIED_MAX: usize = 10_000;

/// What a request comes to, or the topics that must be decided first.
type Attempt<T> = Result<Result<T, Error>, Vec<String>>;

impl Judge<'_, '_> {
    /// Tries under the table's lock until nothing is undecided; Python is never called while a lock is held.
    fn once_decided<T: Send>(
        &self,
        py: Python<'_>,
        shared: &Shared,
        attempt: impl Fn(&Table, &Decided) -> Attempt<T> + Sync,
    ) -> PyResult<T> {
        if self.rights.renews() {
            self.python.call_method0("refresh")?;
        }
        let mut decided = Decided::default();
        let (mut asked, mut denied) = (0, 0);
        loop {
            let undecided = match py.detach(|| attempt(&shared.table(), &decided)) {
                Ok(outcome) => return Ok(outcome?),
                Err(undecided) => undecided,
            };
            for name in undecided {
                let allowed: bool = self.python.call_method1(self.may, (&name,))?.extract()?;
                asked += 1;
                denied += usize::from(!allowed);
                if asked > ASKED_MAX || denied > DENIED_MAX {
                    let why = format!("the request names {asked} topics, {denied} of which are denied: too many");
                    return Err(Error::Malformed(why).into());
                }
                py.detach(|| self.rights.decide(&shared.table(), &mut decided, name, allowed));
            }
        }
    }
}

#[pyclass(frozen, module = "tidemill_broker._core")]
struct WaitingFetch {
    request: Request,
    shared: Arc<Shared>,
}

#[pymethods]
impl WaitingFetch {
    #[getter]
    fn max_wait_ms(&self) -> i32 {
        self.request.max_wait_ms
    }

    #[getter]
    fn handles(&self) -> Vec<u32> {
        self.request.handles(&self.shared.table())
    }

    #[pyo3(signature = (rights, judge, *, last))]
    fn poll<'py>(
        &self,
        py: Python<'py>,
        rights: &TopicRights,
        judge: &Bound<'py, PyAny>,
        last: bool,
    ) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let judge = Judge { rights: &rights.0, python: judge, may: MAY_READ };
        self.shared.answer(py, &self.request, last, &judge)?.map(|page| view(py, page)).transpose()
    }
}

#[derive(IntoPyObject)]
enum Fetched<'py> {
    Ready(Bound<'py, PyMemoryView>),
    Waiting(WaitingFetch),
}

type Produced<'py> = (Option<Bound<'py, PyBytes>>, bool, Vec<u32>, Vec<u32>, Option<String>);

#[pyclass(frozen, module = "tidemill_broker._core")]
struct LogTable {
    shared: Arc<Shared>,
    /// Where batches are decompressed to look inside.
    scratch: Mutex<Scratch>,
}

const SCRATCH_BYTES_KEPT: usize = 4 << 20;

#[pymethods]
impl LogTable {
    #[new]
    fn new(fetch_bytes_max: usize) -> Self {
        let shared = Shared { fetch_bytes_max, ..Shared::default() };
        LogTable { shared: Arc::new(shared), scratch: Mutex::default() }
    }

    fn add(&self, name: &str, topic_id: [u8; 16], index: usize, log: &PartitionLog) -> u32 {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).add(name, topic_id, index, log.0.clone())
    }

    fn remove(&self, name: &str) {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn produce<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        now_ms: i64,
        rights: &TopicRights,
        judge: &Bound<'py, PyAny>,
    ) -> PyResult<Produced<'py>> {
        let frame = Borrowed::new(frame)?;
        let request = produce::parse(frame.bytes())?;
        let denied = match request.transaction() {
            None => false,
            Some("") => true,
            Some(id) => !judge.call_method1("may_write_as", (id,))?.extract::<bool>()?,
        };
        let judge = Judge { rights: &rights.0, python: judge, may: MAY_WRITE };
        let produced = judge.once_decided(py, &self.shared, |table, decided| {
            let undecided = rights.0.undecided(table, request.topics(), decided);
            if !(denied || undecided.is_empty()) {
                return Err(undecided);
            }
            let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let produced = produce::produce(table, &request, decided, denied, now_ms, &mut scratch);
            scratch.reset(SCRATCH_BYTES_KEPT);
            Ok(Ok(produced))
        })?;
        let response = produced.frame.map(|frame| PyBytes::new(py, &frame));
        Ok((response, produced.failed, produced.grew, produced.unflushed, produced.fault))
    }

    fn fetch<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        rights: &TopicRights,
        judge: &Bound<'py, PyAny>,
    ) -> PyResult<Fetched<'py>> {
        let frame = Borrowed::new(frame)?;
        let request = fetch::parse(frame.bytes(), self.shared.fetch_bytes_max)?;
        let judge = Judge { rights: &rights.0, python: judge, may: MAY_READ };
        Ok(match self.shared.answer(py, &request, false, &judge)? {
            Some(page) => Fetched::Ready(view(py, page)?),
            None => Fetched::Waiting(WaitingFetch { request, shared: self.shared.clone() }),
        })
    }
}

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::{LogConfig, LogTable, PartitionLog, TopicRights, WaitingFetch};

    /// How the crate was built; a benchmark refuses a debug build.
    #[pymodule_export]
    const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
}
