module example.org/session

go 1.22
