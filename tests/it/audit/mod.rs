//! The trail: what claviger writes, keeps and finds, and the effects of a failing disk.

mod blocked;
mod crash;
mod disk;
mod disk_full;
mod faults;
mod floods;
mod heads;
mod large;
mod learned;
mod restored;
mod retention;
mod search;
mod shadow;
mod tampered;
mod unverified;
mod written;
