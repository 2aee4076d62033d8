//! What was not seen, or not at once.

use std::{borrow::Cow, collections::BTreeMap, io};

use super::page::{Look, Page};
use crate::report::{
    escape::escape,
    loss::{is_loss, meaning},
    number::count,
};

impl Page<'_> {
    pub fn losses(&mut self, loss: &BTreeMap<Cow<'static, str>, u64>, with_harmless: bool) -> io::Result<()> {
        let mut titled = false;
        for (name, &number) in loss.iter().filter(|&(_, &number)| number > 0) {
            let (harm, meaning) = meaning(name);
            if !is_loss(harm) && !with_harmless {
                continue;
            }
            if !titled {
                self.line("")?;
                let title = self.looks(Look::Bold, "Not everything was seen, or not at once:");
                self.line(&title)?;
                titled = true;
            }
            self.wrapped("  ", &format!("{} {}: {meaning}", count(number), escape(name)))?;
        }
        Ok(())
    }
}
