//! Produce and Fetch over the table of all logs: what Python hands in, what it gets back.
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::{Borrowed, PartitionLog};
use crate::allowed_topics::{AllowedTopics as Allowed, Decisions};
use crate::codec::Scratch;
use crate::error::Error;
use crate::fetch::{self, Page, Pool, Request};
use crate::produce::{self, Produced, Progress};
use crate::table::{Table, TopicKey};

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
pub struct AllowedTopics(Allowed);

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
pub struct Undecided {
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
pub struct WaitingFetch {
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

type Outcome<'py> = (Option<Bound<'py, PyBytes>>, bool, Vec<u32>, Vec<u32>, Option<String>, Vec<u32>);

#[derive(IntoPyObject)]
enum Answered<'py> {
    Done(Outcome<'py>),
    Undecided(Undecided),
    Unfinished(UnfinishedProduce),
}

#[pyclass(frozen, module = "tidemill_broker._core")]
pub struct LogTable {
    shared: Arc<Shared>,
    /// Where batches are decompressed to look inside.
    scratch: Mutex<Scratch>,
}

/// A Produce request that took its turn and has batches left; it holds its own copy of the frame.
#[pyclass(frozen, module = "tidemill_broker._core")]
pub struct UnfinishedProduce {
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
    (response, produced.failed, produced.grew, produced.unflushed, produced.fault, produced.rolled)
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

    fn unreadable(&self) -> Vec<(u32, String)> {
        self.shared.table().unreadable.take()
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
