//! The whole boundary to Python; see `broker/_core.pyi` for its contract.
use pyo3::prelude::*;

#[pymodule]
mod _core {
    /// How the crate was built; a benchmark refuses a debug build.
    #[pymodule_export]
    const BUILD_PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
}
