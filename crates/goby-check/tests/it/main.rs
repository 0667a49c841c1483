//! What `goby_check` finds, and what it leaves alone.

mod bubble;
mod mistakes;
mod outside;
mod races;
mod replay;
mod schedules;
