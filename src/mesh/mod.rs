//! The APIs that workloads and meshes speak.
