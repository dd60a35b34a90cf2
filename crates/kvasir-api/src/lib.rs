//! HTTP dialects of Kvasir and the kit they share
