//! The crate behind `broker._core`: a table of contents and nothing else.
#![deny(unsafe_code)]

#[cfg(feature = "python")]
mod bindings;
