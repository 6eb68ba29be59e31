//! The one error type inside the crate; `bindings.rs` turns it into Python's exceptions.
use std::fmt;
use std::io;

/// Kafka's error codes (org.apache.kafka.common.protocol.Errors) that the log answers with.
pub mod code {
    pub const NONE: i16 = 0;
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const CORRUPT_MESSAGE: i16 = 2;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub const INVALID_REQUIRED_ACKS: i16 = 21;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const INVALID_TIMESTAMP: i16 = 32;
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub const INVALID_TXN_STATE: i16 = 48;
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub const INVALID_RECORD: i16 = 87;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// Why a batch is refused; `records` lists single records at fault as (index, reason).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: i16,
    pub message: String,
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    pub fn new(code: i16, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), records: Vec::new() }
    }
}

#[derive(Debug)]
pub enum Error {
    /// A request frame that is not what its header says.
    Malformed(String),
    /// A batch broke a rule of the format or of the topic.
    Refused(Refusal),
    /// An offset below the log start or above the end.
    OutOfRange(String),
    /// What was read is not what was written.
    Damaged(String),
    Io(io::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Malformed(why) | Error::OutOfRange(why) | Error::Damaged(why) => f.write_str(why),
            Error::Refused(refusal) => f.write_str(&refusal.message),
            Error::Io(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(fault: io::Error) -> Self {
        Error::Io(fault)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Error::Refused(refusal)
    }
}

pub fn malformed<T>(why: impl Into<String>) -> Result<T> {
    Err(Error::Malformed(why.into()))
}
