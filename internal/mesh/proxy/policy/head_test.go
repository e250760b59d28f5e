package policy

import "time"

// text is a Head as tests write it. Fields are names and values in turn.
type text struct {
	Method, Path, RawQuery, Host string
	Fields                       []string
	Now                          time.Time
}

func (t text) head() *Head {
	head := &Head{Method: []byte(t.Method), Path: []byte(t.Path), Query: []byte(t.RawQuery), Host: []byte(t.Host), Now: t.Now}
	for i := 0; i < len(t.Fields); i += 2 {
		head.Fields = append(head.Fields, Field{Name: []byte(t.Fields[i]), Value: []byte(t.Fields[i+1])})
	}
	return head
}
