//! `xol detach`: remove what a killed xol left.

use super::args::DetachArgs;
use super::failure::Failure;
use crate::show::number::counted;
use crate::show::output::Notes;

pub(crate) fn run(args: &DetachArgs) -> Result<u8, Failure> {
    let restored = xol::session::detach(args.pid)?;
    let text = match restored {
        0 => format!("process {} holds nothing of xol's", args.pid),
        _ => format!("{} restored in process {}", counted(restored, "site"), args.pid),
    };
    Notes::new(args.quiet).note(&text);
    Ok(0)
}
