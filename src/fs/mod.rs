//! Files of the state folder: who owns them, who may read them, and how they are replaced.

pub mod trust;
