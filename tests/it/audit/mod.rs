//! The trail: what is written, what is kept, what is found, and what a failing disk does to it.

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
