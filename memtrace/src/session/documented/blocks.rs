//! Samples in a document: the indented block behind each mark.

/// What stands before a sample, without the end of the comment.
const MARK: &str = "<!-- sample: ";

/// The document with each marked block replaced by the text that `sample` gives for its name.
///
/// # Errors
/// The name of a sample that is not known.
pub(super) fn replaced<'a>(page: &str, mut sample: impl FnMut(&str) -> Option<&'a str>) -> Result<String, String> {
    let mut made = String::with_capacity(page.len());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        made.push_str(line);
        made.push('\n');
        let Some(name) = line.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        while lines.next_if(|line| line.is_empty() || line.starts_with("    ")).is_some() {}
        made.push('\n');
        made.push_str(&indented(sample(name).ok_or(name)?));
        made.push('\n');
    }
    Ok(made)
}

/// A block of code in Markdown.
fn indented(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") })
        .collect()
}

#[test]
fn only_the_block_behind_the_mark_is_replaced() {
    let page = "Before:\n\n    kept\n\n<!-- sample: one -->\n\n    old\n\n    old\n\nAfter.\n\n    kept\n";
    let made = replaced(page, |name| (name == "one").then_some("new\n\nlines\n"));
    let expected = "Before:\n\n    kept\n\n<!-- sample: one -->\n\n    new\n\n    lines\n\nAfter.\n\n    kept\n";
    assert_eq!(made.as_deref(), Ok(expected));
    assert_eq!(replaced(page, |_| None), Err("one".to_owned()));
}
