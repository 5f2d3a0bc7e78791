//! The protocol's client against bytes, written conversations, and servers of ill will.

mod conversation;
mod conversations;
mod descriptions;
mod hostile;
mod links;
mod packets;
mod stops;
