//! The whole boundary to Python; see `broker/_core.pyi` for its contract. Nothing is decided here.
//!
//! Every call gives up the interpreter's lock while it works. A buffer that came from Python is held (and with it its
//! owner) as long as its slice is in use.
#![allow(unsafe_code)]
use std::collections::HashMap;
use std::ffi::c_int;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyOSError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::allowed_topics::{AllowedTopics as Allowed, Decisions};
use crate::codec::Scratch;
use crate::error::Error;
use crate::fetch::{self, Page, Pool, Request};
use crate::log::{Config, Log, Writer};
use crate::produce::{self, Produced, Progress};
use crate::table::{Table, TopicKey};

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

    /// Serves what `serve` does with the table, once every topic of the request is decided.
    fn once_decided<'a, T: AsRef<str> + 'a, R>(
        &self,
        allowed: &Allowed,
        decisions: &Decisions,
        topics: impl Iterator<Item = &'a TopicKey<T>>,
        serve: impl FnOnce(&Table) -> Result<R, Error>,
    ) -> Result<Result<R, Undecided>, Error> {
        let table = self.table();
        allowed.keep(&table, decisions);
        let topics = allowed.undecided(&table, topics, decisions);
        if topics.is_empty() { serve(&table).map(Ok) } else { Ok(Err(Undecided { topics, transactional_id: None })) }
    }

    /// A fetch's response, or None while its min_bytes are not there.
    fn answer(
        &self,
        py: Python<'_>,
        request: &Request,
        last: bool,
        allowed: &Allowed,
        decided: Option<Decided>,
    ) -> PyResult<Result<Option<Page>, Undecided>> {
        let decisions = Decisions(decided.map(|(topics, _)| topics).unwrap_or_default());
        Ok(py.detach(|| {
            let answer = |table: &Table| request.answer(table, &decisions, last, &self.pool);
            self.once_decided(allowed, &decisions, request.topics(), answer)
        })?)
    }
}

/// Which topics one connection may write to, or read from, as far as that is decided.
#[pyclass(frozen, module = "tidemill_broker._core")]
struct AllowedTopics(Allowed);

#[pymethods]
impl AllowedTopics {
    #[new]
    fn new() -> Self {
        AllowedTopics(Allowed::default())
    }

    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.0.forget());
    }
}

/// What must be decided before a request is served; the caller decides, and calls again with the decisions.
#[pyclass(frozen, get_all, module = "tidemill_broker._core")]
#[derive(Default)]
struct Undecided {
    topics: Vec<String>,
    transactional_id: Option<String>,
}

/// Python's decisions about one request: topic to whether it is allowed, and whether its transactional id is.
type Decided = (HashMap<String, bool>, Option<bool>);

/// Whether the rules must be compared before the request is looked at. A second call brings decisions: it was done.
fn is_due(allowed: &Allowed, decided: Option<&Decided>) -> bool {
    decided.is_none() && allowed.is_due()
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

    #[pyo3(signature = (allowed, decided = None, *, last))]
    fn poll<'py>(
        &self,
        py: Python<'py>,
        allowed: &AllowedTopics,
        decided: Option<Decided>,
        last: bool,
    ) -> PyResult<Option<Polled<'py>>> {
        if is_due(&allowed.0, decided.as_ref()) {
            return Ok(Some(Polled::Undecided(Undecided::default())));
        }
        Ok(match self.shared.answer(py, &self.request, last, &allowed.0, decided)? {
            Ok(Some(page)) => Some(Polled::Ready(view(py, page)?)),
            Ok(None) => None,
            Err(undecided) => Some(Polled::Undecided(undecided)),
        })
    }
}

#[derive(IntoPyObject)]
enum Polled<'py> {
    Ready(Bound<'py, PyMemoryView>),
    Undecided(Undecided),
}

#[derive(IntoPyObject)]
enum Fetched<'py> {
    Ready(Bound<'py, PyMemoryView>),
    Waiting(WaitingFetch),
    Undecided(Undecided),
}

type Outcome<'py> = (Option<Bound<'py, PyBytes>>, bool, Vec<u32>, Vec<u32>, Option<String>);

#[derive(IntoPyObject)]
enum Answered<'py> {
    Done(Outcome<'py>),
    Undecided(Undecided),
    Unfinished(UnfinishedProduce),
}

#[pyclass(frozen, module = "tidemill_broker._core")]
struct LogTable {
    shared: Arc<Shared>,
    /// Where batches are decompressed to look inside.
    scratch: Mutex<Scratch>,
}

/// A Produce request that took its turn and has batches left; it holds its own copy of the frame.
#[pyclass(frozen, module = "tidemill_broker._core")]
struct UnfinishedProduce {
    shared: Arc<Shared>,
    frame: Vec<u8>,
    decisions: Decisions,
    denied: bool,
    progress: Mutex<Progress>,
}

#[pymethods]
impl UnfinishedProduce {
    fn go_on<'py>(&self, py: Python<'py>, now_ms: i64) -> PyResult<Option<Outcome<'py>>> {
        let produced = py.detach(|| {
            let request = produce::parse(&self.frame)?;
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            // Its own: a request that the event loop waits for must not wait for this one.
            let mut scratch = Scratch::default();
            let (decisions, denied, table) = (&self.decisions, self.denied, || self.shared.table());
            let done = produce::produce(table, &request, decisions, denied, now_ms, &mut scratch, &mut progress);
            Ok::<_, Error>(done.then(|| std::mem::take(&mut *progress).into_produced()))
        })?;
        Ok(produced.map(|produced| outcome(py, produced)))
    }
}

fn outcome(py: Python<'_>, produced: Produced) -> Outcome<'_> {
    let response = produced.frame.map(|frame| PyBytes::new(py, &frame));
    (response, produced.failed, produced.grew, produced.unflushed, produced.fault)
}

const SCRATCH_BYTES_KEPT: usize = 4 << 20;

#[pymethods]
impl LogTable {
    #[new]
    fn new(fetch_bytes_max: usize) -> Self {
        let shared = Shared { fetch_bytes_max, ..Shared::default() };
        LogTable { shared: Arc::new(shared), scratch: Mutex::new(Scratch::in_a_hurry()) }
    }

    fn add(&self, name: &str, topic_id: [u8; 16], index: usize, log: &PartitionLog) -> u32 {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).add(name, topic_id, index, log.0.clone())
    }

    fn remove(&self, name: &str) {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    #[pyo3(signature = (frame, now_ms, allowed, decided = None))]
    fn produce<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        now_ms: i64,
        allowed: &AllowedTopics,
        decided: Option<Decided>,
    ) -> PyResult<Answered<'py>> {
        if is_due(&allowed.0, decided.as_ref()) {
            return Ok(Answered::Undecided(Undecided::default()));
        }
        let frame = Borrowed::new(frame)?;
        let request = produce::parse(frame.bytes())?;
        let (topics, transaction_allowed) = decided.unwrap_or_default();
        let denied = match (request.transaction(), transaction_allowed) {
            (None, _) => false,
            (Some(""), _) => true,
            (Some(_), Some(allowed)) => !allowed,
            (Some(id), None) => {
                let transactional_id = Some(id.to_string());
                return Ok(Answered::Undecided(Undecided { transactional_id, ..Undecided::default() }));
            }
        };
        let decisions = Decisions(topics);
        let mut progress = Progress::default();
        let done = py.detach(|| {
            // A denied transaction takes the whole request with it, whatever its topics are.
            let topics = request.topics().filter(|_| !denied);
            self.shared.once_decided(&allowed.0, &decisions, topics, |table| {
                let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
                let done =
                    produce::produce(|| table, &request, &decisions, denied, now_ms, &mut scratch, &mut progress);
                scratch.reset(SCRATCH_BYTES_KEPT);
                Ok(done)
            })
        })?;
        Ok(match done {
            Err(undecided) => Answered::Undecided(undecided),
            Ok(true) => Answered::Done(outcome(py, progress.into_produced())),
            Ok(false) => Answered::Unfinished(UnfinishedProduce {
                shared: self.shared.clone(),
                frame: frame.bytes().to_vec(),
                decisions,
                denied,
                progress: Mutex::new(progress),
            }),
        })
    }

    #[pyo3(signature = (frame, allowed, decided = None))]
    fn fetch<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        allowed: &AllowedTopics,
        decided: Option<Decided>,
    ) -> PyResult<Fetched<'py>> {
        if is_due(&allowed.0, decided.as_ref()) {
            return Ok(Fetched::Undecided(Undecided::default()));
        }
        let frame = Borrowed::new(frame)?;
        let request = fetch::parse(frame.bytes(), self.shared.fetch_bytes_max)?;
        Ok(match self.shared.answer(py, &request, false, &allowed.0, decided)? {
            Ok(Some(page)) => Fetched::Ready(view(py, page)?),
            Ok(None) => Fetched::Waiting(WaitingFetch { request, shared: self.shared.clone() }),
            Err(undecided) => Fetched::Undecided(undecided),
        })
    }
}

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::{AllowedTopics, LogConfig, LogTable, PartitionLog, Undecided, UnfinishedProduce, WaitingFetch};

    /// How the crate was built; a benchmark refuses a debug build.
    #[pymodule_export]
    const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
}
