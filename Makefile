# `make help` lists what there is. The work itself is in tools/, so that it also runs without make.
PYTHON ?= python3
BIN := .venv/bin
TOOLS := $(BIN)/python -m tools
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help install site site-zip pdf slides questions minutes test test-paths notebooks studies studies-again answers pull lab clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## install everything into .venv

site: $(READY) ## build the site into _build/html and say how to open it (SOLUTIONS=0 leaves the solutions out)
	@$(TOOLS) site

site-zip: $(READY) ## pack the site, for a class without a network (_build/vanishing-gradients-site.zip)
	@$(TOOLS) site-zip

pdf: $(READY) ## print the whole book (_build/vanishing-gradients.pdf; needs a Chromium)
	@$(TOOLS) pdf

slides: $(READY) ## build the teacher's decks, as pages and as PDF (_build/slides)
	@$(TOOLS) slides

questions: $(READY) ## write the question bank for Moodle, for Canvas and on paper (_build/questions)
	@$(TOOLS) questions

minutes: $(READY) ## time every chapter, for the teacher's tables (about ten minutes)
	@$(TOOLS) minutes

test: $(READY) ## run everything: unit tests, every notebook, derived files, the site in a browser
	@$(TOOLS) test

test-paths: $(READY) ## re-execute the notebooks on other code paths of the processor
	@$(TOOLS) test-paths

notebooks: $(READY) ## build and execute the notebooks whose text or helper package has changed
	@$(TOOLS) notebooks

studies: $(READY) ## run the sweeps whose code has changed (minutes); chapters draw their results
	@$(TOOLS) studies

studies-again: $(READY) ## run all studies afresh and compare with what is stored; changes no file
	@$(TOOLS) studies --again

answers: $(READY) ## try the known right and wrong answers on the labs' checks, and write the table
	@$(TOOLS) answers

pull: $(READY) ## take edits made in JupyterLab back into book/: make pull NB=chapters/03_saturation.ipynb
	@$(TOOLS) pull "$(NB)"

lab: $(READY) ## open JupyterLab at the labs
	@$(TOOLS) lab

clean: ## remove what was built (not .venv, not the notebooks)
	rm -rf _build node_modules .pytest_cache .hypothesis

$(READY): requirements.txt pyproject.toml
	@echo "installing into .venv (once; about a minute and 1.5 GB)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e ".[grading,dask]"
	@touch $@
