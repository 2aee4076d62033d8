//! How the values of other rooms are written on the command line.

use clap::{
    ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

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

/// Reads the form of what is no report: text or JSON.
pub(super) fn text_or_json() -> impl TypedValueParser<Value = Format> {
    let names = [Format::Text, Format::Json].map(|format| PossibleValue::new(format.name()).help(format.words()));
    PossibleValuesParser::new(names).map(|name| if name == Format::Json.name() { Format::Json } else { Format::Text })
}
