//! `ferrolb crds`.

use ferrolb_api::crd::definition;

use crate::error::{Error, print};

pub(crate) const EXAMPLES: &str = "\
Example:
  ferrolb crds | kubectl apply -f -

They take MetalLB's objects of these kinds as they are. Where MetalLB's own definitions are installed, leave those.";

pub(crate) fn main() -> Result<(), Error> {
    print(definition::yaml().map_err(Error::failed)?.as_bytes())
}
