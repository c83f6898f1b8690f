from simsong.cli import main

main()
