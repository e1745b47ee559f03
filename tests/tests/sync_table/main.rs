//! Tables as a source of models: what can be declared, what is fetched, and that no change is missed.

mod declare;
mod engine;
mod fetch;
mod follow;
mod gaps;
mod world;
