//! Text for tables in Markdown.

/// Text that stays in its cell.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
