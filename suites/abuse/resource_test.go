package abuse

func resourceCases() []Case { return nil }
func planeCases() []Case { return nil }
