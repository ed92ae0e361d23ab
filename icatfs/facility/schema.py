"""The entities of ICAT 6.2 as a table in words; ``model`` reads it.

One paragraph for each entity: its name and unique key in the order of ICAT's messages, then its
attributes, its to-one and its to-many relations. ``!`` is not null; an attribute is ``name:type``
(without a type, text), with its greatest length in parentheses where that is not 255, and the
value a new object has; a relation is ``name:Target``, left out where the target is the name with a
capital, and a to-many relation also says which relation of the target leads back.
Every entity also has id, createId, createTime, modId and modTime.

Source: the entity classes of icat.server 6.2 (facts); Rule without the columns it derives.
"""

from __future__ import annotations

SCHEMA = """
Affiliation (user, name)
  fields fullReference(1023) name! pid
  one user!:DataPublicationUser

Application (facility, name, version)
  fields name! version!
  one facility!
  many jobs:Job.application

DataCollection ()
  fields doi
  many dataCollectionDatafiles:DataCollectionDatafile.dataCollection
    dataCollectionDatasets:DataCollectionDataset.dataCollection
    dataCollectionInvestigations:DataCollectionInvestigation.dataCollection
    dataPublications:DataPublication.content jobsAsInput:Job.inputDataCollection
    jobsAsOutput:Job.outputDataCollection parameters:DataCollectionParameter.dataCollection

DataCollectionDatafile (dataCollection, datafile)
  one dataCollection! datafile!

DataCollectionDataset (dataCollection, dataset)
  one dataCollection! dataset!

DataCollectionInvestigation (dataCollection, investigation)
  one dataCollection! investigation!

DataCollectionParameter (dataCollection, type)
  fields dateTimeValue:date error:double numericValue:double rangeBottom:double rangeTop:double
    stringValue(4000)
  one dataCollection! type!:ParameterType

DataPublication (facility, pid)
  fields description(4000) internalId pid! publicationDate:date subject(1023) title!
  one content!:DataCollection facility! type:DataPublicationType
  many dates:DataPublicationDate.publication
    fundingReferences:DataPublicationFunding.dataPublication relatedItems:RelatedItem.publication
    subjects:Subject.dataPublication users:DataPublicationUser.publication

DataPublicationDate (publication, dateType)
  fields date dateType!
  one publication!:DataPublication

DataPublicationFunding (dataPublication, funding)
  one dataPublication! funding!:FundingReference

DataPublicationType (facility, name)
  fields description name!
  one facility!
  many dataPublications:DataPublication.type

DataPublicationUser (publication, user, contributorType)
  fields contributorType! email familyName fullName givenName orderKey
  one publication!:DataPublication user!
  many affiliations:Affiliation.user

Datafile (dataset, name)
  fields checksum datafileCreateTime:date datafileModTime:date description doi fileSize:long=0
    location(511) name!
  one datafileFormat dataset!
  many dataCollectionDatafiles:DataCollectionDatafile.datafile
    destDatafiles:RelatedDatafile.destDatafile parameters:DatafileParameter.datafile
    sourceDatafiles:RelatedDatafile.sourceDatafile

DatafileFormat (facility, name, version)
  fields description name! type version!
  one facility!
  many datafiles:Datafile.datafileFormat

DatafileParameter (datafile, type)
  fields dateTimeValue:date error:double numericValue:double rangeBottom:double rangeTop:double
    stringValue(4000)
  one datafile! type!:ParameterType

Dataset (investigation, name)
  fields complete!:bool description doi endDate:date fileCount:long=0 fileSize:long=0
    location(511) name! startDate:date
  one investigation! sample type!:DatasetType
  many dataCollectionDatasets:DataCollectionDataset.dataset datafiles:Datafile.dataset
    datasetInstruments:DatasetInstrument.dataset datasetTechniques:DatasetTechnique.dataset
    parameters:DatasetParameter.dataset

DatasetInstrument (dataset, instrument)
  one dataset! instrument!

DatasetParameter (dataset, type)
  fields dateTimeValue:date error:double numericValue:double rangeBottom:double rangeTop:double
    stringValue(4000)
  one dataset! type!:ParameterType

DatasetTechnique (dataset, technique)
  one dataset! technique!

DatasetType (facility, name)
  fields description name!
  one facility!
  many datasets:Dataset.type

Facility (name)
  fields daysUntilRelease:int description(1023) fullName name! url
  many applications:Application.facility dataPublicationTypes:DataPublicationType.facility
    dataPublications:DataPublication.facility datafileFormats:DatafileFormat.facility
    datasetTypes:DatasetType.facility facilityCycles:FacilityCycle.facility
    instruments:Instrument.facility investigationTypes:InvestigationType.facility
    investigations:Investigation.facility parameterTypes:ParameterType.facility
    sampleTypes:SampleType.facility

FacilityCycle (facility, name)
  fields description endDate:date name! startDate:date
  one facility!
  many investigationFacilityCycles:InvestigationFacilityCycle.facilityCycle

FundingReference (funderName, awardNumber)
  fields acknowledgement(1023) awardNumber! awardTitle funderIdentifier funderName!
  many investigations:InvestigationFunding.funding publications:DataPublicationFunding.funding

Grouping (name)
  fields name!
  many investigationGroups:InvestigationGroup.grouping rules:Rule.grouping
    userGroups:UserGroup.grouping

Instrument (facility, name)
  fields description(4000) endDate:date fullName name! pid startDate:date type url
  one facility!
  many datasetInstruments:DatasetInstrument.instrument
    instrumentScientists:InstrumentScientist.instrument
    investigationInstruments:InvestigationInstrument.instrument shifts:Shift.instrument

InstrumentScientist (user, instrument)
  one instrument! user!

Investigation (facility, name, visitId)
  fields doi endDate:date fileCount:long=0 fileSize:long=0 name! releaseDate:date startDate:date
    summary(4000) title! visitId!
  one facility! type!:InvestigationType
  many dataCollectionInvestigations:DataCollectionInvestigation.investigation
    datasets:Dataset.investigation fundingReferences:InvestigationFunding.investigation
    investigationFacilityCycles:InvestigationFacilityCycle.investigation
    investigationGroups:InvestigationGroup.investigation
    investigationInstruments:InvestigationInstrument.investigation
    investigationUsers:InvestigationUser.investigation keywords:Keyword.investigation
    parameters:InvestigationParameter.investigation publications:Publication.investigation
    samples:Sample.investigation shifts:Shift.investigation
    studyInvestigations:StudyInvestigation.investigation

InvestigationFacilityCycle (facilityCycle, investigation)
  one facilityCycle! investigation!

InvestigationFunding (investigation, funding)
  one funding!:FundingReference investigation!

InvestigationGroup (grouping, investigation, role)
  fields role!
  one grouping! investigation!

InvestigationInstrument (investigation, instrument)
  one instrument! investigation!

InvestigationParameter (investigation, type)
  fields dateTimeValue:date error:double numericValue:double rangeBottom:double rangeTop:double
    stringValue(4000)
  one investigation! type!:ParameterType

InvestigationType (name, facility)
  fields description name!
  one facility!
  many investigations:Investigation.type

InvestigationUser (user, investigation, role)
  fields role!
  one investigation! user!

Job ()
  fields arguments
  one application! inputDataCollection:DataCollection outputDataCollection:DataCollection

Keyword (name, investigation)
  fields name!
  one investigation!

ParameterType (facility, name, units)
  fields applicableToDataCollection!:bool applicableToDatafile!:bool applicableToDataset!:bool
    applicableToInvestigation!:bool applicableToSample!:bool description enforced!:bool
    maximumNumericValue:double minimumNumericValue:double name! pid units! unitsFullName
    valueType!:enum:ParameterValueType verified!:bool
  one facility!
  many dataCollectionParameters:DataCollectionParameter.type
    datafileParameters:DatafileParameter.type datasetParameters:DatasetParameter.type
    investigationParameters:InvestigationParameter.type
    permissibleStringValues:PermissibleStringValue.type sampleParameters:SampleParameter.type

PermissibleStringValue (value, type)
  fields value!
  one type!:ParameterType

PublicStep (origin, field)
  fields field!(32) origin!(32)

Publication ()
  fields doi fullReference!(511) repository repositoryId url
  one investigation!

RelatedDatafile (sourceDatafile, destDatafile)
  fields relation!
  one destDatafile!:Datafile sourceDatafile!:Datafile

RelatedItem (publication, identifier)
  fields fullReference(1023) identifier! relatedItemType relationType! title
  one publication!:DataPublication

Rule ()
  fields crudFlags!(4) what!(1024)
  one grouping

Sample (investigation, name)
  fields name! pid
  one investigation! type:SampleType
  many datasets:Dataset.sample parameters:SampleParameter.sample

SampleParameter (sample, type)
  fields dateTimeValue:date error:double numericValue:double rangeBottom:double rangeTop:double
    stringValue(4000)
  one sample! type!:ParameterType

SampleType (facility, name, molecularFormula)
  fields molecularFormula! name! safetyInformation(4000)
  one facility!
  many samples:Sample.type

Shift (investigation, startDate, endDate)
  fields comment endDate!:date startDate!:date
  one instrument investigation!

Study ()
  fields description(4000) endDate:date name! pid startDate:date status:enum:StudyStatus
  one user
  many studyInvestigations:StudyInvestigation.study

StudyInvestigation (study, investigation)
  one investigation! study!

Subject (dataPublication, name)
  fields classificationCode name! pid schemeURI subjectScheme valueURI
  one dataPublication!

Technique (name)
  fields description name! pid
  many datasetTechniques:DatasetTechnique.technique

User (name)
  fields affiliation email familyName fullName givenName name! orcidId
  many dataPublicationUsers:DataPublicationUser.user instrumentScientists:InstrumentScientist.user
    investigationUsers:InvestigationUser.user studies:Study.user userGroups:UserGroup.user

UserGroup (user, grouping)
  one grouping! user!
"""
