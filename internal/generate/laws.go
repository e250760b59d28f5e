package generate

// Law says which two worlds must look the same to clients, whatever the rules say
// (N15).
type Law string

// twin adds a scenario that must show the same as c's, by one of the laws.
func (b *builder) twin(c *Case) {}
