// Package router answers which placement serves a request.
//
// Keys go to replicas by rendezvous hashing (highest random weight: Thaler and Ravishankar, 1998) on seeded
// xxHash, so that equal keys meet the pipeline which may hold their prefix, and a key moves only if its
// replica leaves. Bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018) with c = 1.25 let a hot key spill
// over to its next replicas in order.
//
// A Router does no I/O and holds one lock for well under a microsecond per Pick.
package router
