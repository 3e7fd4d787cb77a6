//! ha-tests

/// Like `println!`, but a reader that is gone (`relevo-lab show | head`) is no error: what was begun is carried on, and
/// a lab is taken down as ever.
macro_rules! say {
    () => { say!("") };
    ($($text:tt)+) => {{
        use std::io::Write as _;
        drop(writeln!(std::io::stdout().lock(), $($text)+));
    }};
}

/// [`say`] without the end of the line.
macro_rules! say_part {
    ($($text:tt)+) => {{
        use std::io::Write as _;
        drop(write!(std::io::stdout().lock(), $($text)+));
    }};
}

pub mod demo;
pub mod lab;
pub mod observe;
pub mod phones;
pub mod sim;
