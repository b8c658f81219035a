//! The checkers, checked: good histories raise no alarm, each kind of damage is reported under its name, and three ways to judge order
//! agree wherever everything can be tried.

mod damage;
mod damage_keyed;
mod generate;
mod golden;
mod good;
mod mutations;
mod small;
