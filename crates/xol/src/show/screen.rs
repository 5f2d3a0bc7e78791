//! A few lines on a terminal that are drawn again and again in place.

use console::Term;

/// The lines drawn last.
pub(crate) struct Screen {
    term: Term,
    drawn: usize,
}

impl Screen {
    /// Draws on the terminal that standard output is, from the cursor on; a table at a time, so that it does not
    /// flicker.
    pub(crate) fn new() -> Self {
        Self { term: Term::buffered_stdout(), drawn: 0 }
    }

    /// Rows and columns now: a window may change its size.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (rows, columns) = self.term.size();
        (rows.into(), columns.into())
    }

    /// Replaces what was drawn by as many of `lines` as fit.
    ///
    /// A terminal that cannot be written to shows at the next line of results; nothing is lost by leaving it out here.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        self.erase();
        let (rows, columns) = self.size();
        for line in lines.iter().take(rows.saturating_sub(1)) {
            let _ = self.term.write_line(&console::truncate_str(line, columns, "…"));
            self.drawn += 1;
        }
        let _ = self.term.flush();
    }

    /// Takes away what was drawn.
    pub(crate) fn clear(&mut self) {
        self.erase();
        let _ = self.term.flush();
    }

    fn erase(&mut self) {
        let _ = self.term.clear_last_lines(std::mem::take(&mut self.drawn));
    }
}
