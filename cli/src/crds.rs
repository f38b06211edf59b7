//! `ferrolb crds`.

use ferrolb_api::crd::definition;
use ferrolb_source::yaml;

use crate::error::{Error, print};

pub(crate) const EXAMPLES: &str = "\
Example:
  ferrolb crds | kubectl apply -f -

MetalLB's objects of these kinds work with these definitions. Where MetalLB's
own definitions are installed, keep those.";

pub(crate) fn main() -> Result<(), Error> {
    print(
        yaml::documents(&definition::all())
            .map_err(Error::failed)?
            .as_bytes(),
    )
}
