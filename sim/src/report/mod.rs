//! What a run looked like, for people: a story in text, a page to look at, a trace for Perfetto. And for `floss-checker`: a history.

mod history;
mod page;
mod perfetto;
mod story;
mod timeline;

pub use history::History;
pub use page::page;
pub use perfetto::perfetto;
pub use story::story;
pub use timeline::{Append, Span, Timeline};
