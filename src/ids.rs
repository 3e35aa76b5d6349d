//! Typed indexes into the lists of a snapshot, so that a consumer cannot be taken for an upstream or a credential.

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(usize);

        impl $name {
            /// Creates the id of the entry at `index` of its list.
            #[must_use]
            pub const fn new(index: usize) -> Self {
                Self(index)
            }

            /// Returns the index of the entry in its list.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0
            }
        }
    )+};
}

ids! {
    /// The index of a consumer in the directory.
    ConsumerId;
    /// The index of an upstream in the snapshot.
    UpstreamId;
    /// The index of a credential in custody.
    CredentialId;
}
