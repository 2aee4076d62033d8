//! How the values of other rooms are written on the command line.

use clap::{ValueEnum, builder::PossibleValue};

use crate::report::{
    diff::{By, DiffFormat},
    form::{Format, Metric},
};

macro_rules! named {
    ($($type:ty),*) => {$(
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &Self::ALL
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(PossibleValue::new(self.name()).help(self.words()))
            }
        }
    )*};
}

named!(By, DiffFormat, Format, Metric);
