package abuse

func http2Cases() []Case { return nil }
func resourceCases() []Case { return nil }
func planeCases() []Case { return nil }
