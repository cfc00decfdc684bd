package main

const floorVar = "X"

func serveFloor(string) {}
