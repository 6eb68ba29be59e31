//! The crate behind `tidemill_broker._core`: a table of contents and nothing else.
//!
//! `wire` and `batch`, `records`, `codec` read bytes; `index`, `segment`, `epochs`, `producers`, `checkpoint`,
//! `recovery`, `salvage` keep a partition's files, `log` owns them; `produce` and `fetch` answer whole requests over a `table`, and
//! `allowed_topics` says for which of its topics.
#![deny(unsafe_code)]

pub mod allowed_topics;
pub mod batch;
mod checkpoint;
mod codec;
mod epochs;
pub mod error;
pub mod fetch;
mod index;
pub mod log;
pub mod produce;
mod producers;
pub mod records;
mod recovery;
mod salvage;
mod segment;
pub mod table;
mod wire;

#[cfg(feature = "python")]
mod bindings;
