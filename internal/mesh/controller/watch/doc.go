// Package watch keeps the index true to the API server.
//
//	API server --list, event--> reflector per kind --reduced--> intake --batch--> index
//
// One watch per kind brings lists, which replace everything of their kind in one
// step, and events, which change one object. Events that come in quick succession
// become one transaction. Objects are reduced to what policy depends on as they
// arrive and kept nowhere else.
//
// Servers and ServerAuthorizations are always watched, the other kinds of policy
// if their CRDs exist at start, in the newest version that is served (C-30).
//
// Beside the index it keeps, per kind, the highest resourceVersion that the index
// has taken (Marks). That is what a writer waits for to know that a write, or
// its absence, has been observed.
//
// It also tells the index with each transaction what it is then of: the span of
// versions of each kind (package revision), which every message to proxies carries.
// Who holds the policy of another replica says so, and Reach waits until this one
// is as new, listing quiet kinds anew to find out.
//
// It refuses to let one object that cannot be decoded hold up or hide others,
// and never applies a part of a list.
package watch
