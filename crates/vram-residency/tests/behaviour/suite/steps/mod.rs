//! What the words of the features mean.

mod damage;
mod evidence;
mod group;
mod keys;
mod life;
mod log;
mod many;
mod mode;
mod outcome;
mod policy;
mod receipt;
mod record;
mod seal;
mod secret;
mod share;
mod size;
mod start;
mod state;
